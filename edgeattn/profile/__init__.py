"""From a bundle to records: how fast it is on a target."""
