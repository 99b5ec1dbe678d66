"""`aloe preflight`: is every host of a run fit for it? Each failure is one sentence with the command that fixes it."""
