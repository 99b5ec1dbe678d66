"""The roles as models behind chat servers play them; `data_gen/roles.py` has the interfaces."""
