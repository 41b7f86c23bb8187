// The CPU kernels for AVX2.
#include <cmath>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c")
#define MSDA_INSTRUCTION_SET avx2
#include "kernel.h"
#endif
