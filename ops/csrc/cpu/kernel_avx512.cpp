// The CPU kernels for AVX-512.
#include <cmath>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,f16c")
#define MSDA_INSTRUCTION_SET avx512
#include "kernel.h"
#endif
