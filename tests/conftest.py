"""Settings that must stand before torch is imported."""

import os

# Tests run side by side; two processes with two threads each on two cores wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
