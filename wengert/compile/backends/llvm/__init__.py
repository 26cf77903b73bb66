"""Machine code by way of LLVM (extra `compile`)."""
