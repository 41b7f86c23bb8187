// The CPU kernels for any machine: what compilers call the baseline has vectors of 16 bytes.
#include <cmath>
#include <cstring>

#define MSDA_INSTRUCTION_SET portable
#ifdef __GNUC__
#define MSDA_VECTOR_BYTES 16
#else
#define MSDA_VECTOR_BYTES 4
#endif
#include "kernel.h"
