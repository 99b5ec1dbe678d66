"""The roles played by models, through a chat server; `data_gen/roles.py` has what they implement."""
