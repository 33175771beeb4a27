"""Artifacts, measured in the browser of any phone: a server here, a page there, records from what comes back."""
