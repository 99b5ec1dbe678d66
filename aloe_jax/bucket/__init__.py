"""Runs whose directory is in a bucket, `gs://BUCKET/DIR` (docs/buckets.md).

A run works in a local copy of its directory, so that what opens, appends and renames files there needs no bucket.
`store.py` is the transport, `lease.py` lets one process write, `snapshot.py` is the record of what the bucket holds,
`mirror.py` brings the copy there and back, `reading.py` is the same for commands that only read. Checkpoints go to the
bucket directly: `places.stored_at` says where.
"""
