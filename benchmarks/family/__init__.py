"""Small vision models of timm and transformers, through the stock converters and through edgeattn:
`python -m benchmarks.family`."""
