// The CPU kernels for AVX-512.
#include <cmath>

#include "problem.h"

#ifdef MSDA_X86_KERNELS
#include <immintrin.h>
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
// GCC 12 takes the undefined operands inside its own intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define MSDA_INSTRUCTION_SET avx512
#define MSDA_VECTOR_BYTES 64
#include "kernel.h"
#endif
