"""Networks of other packages: torchvision, timm, transformers, and any class by its name."""
