"""The choice: composing configurations with Hydra, checking them, and building what they name. Imports no torch."""
