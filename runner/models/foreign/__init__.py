"""Networks from other packages: torchvision, timm, transformers, and any importable class."""
