// The CPU kernels for AVX2.
#include <cmath>

#include "problem.h"

#ifdef MSDA_X86_KERNELS
#include <immintrin.h>
#pragma GCC target("avx2,fma,f16c")
#define MSDA_INSTRUCTION_SET avx2
#define MSDA_VECTOR_BYTES 32
#include "kernel.h"
#endif
