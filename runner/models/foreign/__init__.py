"""Networks that others define: torchvision's, timm's, transformers', and any class by its name."""
