"""From a command line to a file that an existing launcher starts: a SkyPilot task or a JobSet."""
