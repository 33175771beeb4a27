"""The files of a bundle: manifest, records, golden cases, tensors, JSON Schemas.

Every room but ``system`` and ``sample_models`` may import it.
"""
