"""Every TPU topology that has a name, as public tables list them."""

# Topology: accelerator type, hosts and chips per host as TPU VMs (https://cloud.google.com/tpu/docs/v5e, v5p, v6e), and
# on GKE (src/xpk/core/system_characteristics.py of xpk; for v5e:1x1 and v5e:2x2 pkg/config/hardware.go of
# cluster-toolkit). The number in a v5p's type counts cores, of which a chip has two.
TABLE = """
v5e:1x1     v5litepod-1     1 1   1 1
v5e:2x2     v5litepod-4     1 4   1 4
v5e:2x4     v5litepod-8     1 8   2 4
v5e:4x4     v5litepod-16    4 4   4 4
v5e:4x8     v5litepod-32    8 4   8 4
v5e:8x8     v5litepod-64   16 4  16 4
v5e:8x16    v5litepod-128  32 4  32 4
v5e:16x16   v5litepod-256  64 4  64 4
v5p:2x2x1   v5p-8           1 4   1 4
v5p:2x2x2   v5p-16          2 4   2 4
v5p:2x2x4   v5p-32          4 4   4 4
v5p:2x4x4   v5p-64          8 4   8 4
v5p:4x4x4   v5p-128        16 4  16 4
v5p:4x4x8   v5p-256        32 4  32 4
v5p:4x8x8   v5p-512        64 4  64 4
v5p:8x8x8   v5p-1024      128 4 128 4
v6e:1x1     v6e-1           1 1   1 1
v6e:2x2     v6e-4           1 4   1 4
v6e:2x4     v6e-8           1 8   2 4
v6e:4x4     v6e-16          4 4   4 4
v6e:4x8     v6e-32          8 4   8 4
v6e:8x8     v6e-64         16 4  16 4
v6e:8x16    v6e-128        32 4  32 4
v6e:16x16   v6e-256        64 4  64 4
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]
