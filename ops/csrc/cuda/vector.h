// Channels that a thread loads, computes with and adds at once.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ms_deform_attn_kernel.h"

namespace ms_deform_attn::cuda {

// What numbers of type T are computed in.
template <typename T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

// By name, because torch builds without the operators of the 16-bit types.
__device__ __forceinline__ float widen(float number) { return number; }
__device__ __forceinline__ double widen(double number) { return number; }
__device__ __forceinline__ float widen(__half number) { return __half2float(number); }
__device__ __forceinline__ float widen(__nv_bfloat16 number) { return __bfloat162float(number); }

template <typename T>
__device__ __forceinline__ T narrow(Wide<T> number) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half(number);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16(number);
  } else {
    return number;
  }
}

constexpr int kVectorBytes = 16;

template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

// Through the read-only cache, so that loads may overtake the atomic additions of backward.
template <int N, typename T>
__device__ __forceinline__ Vector<Wide<T>, N> load(const T* address) {
  Vector<T, N> packed;
  if constexpr (sizeof(packed) == kVectorBytes) {
    const int4 bits = __ldg(reinterpret_cast<const int4*>(address));
    memcpy(&packed, &bits, sizeof(bits));
  } else {
    static_assert(N == 1);
    packed.at[0] = __ldg(address);
  }
  Vector<Wide<T>, N> wide;
#pragma unroll
  for (int i = 0; i < N; ++i) wide.at[i] = widen(packed.at[i]);
  return wide;
}

template <int N, typename T>
__device__ __forceinline__ void store(T* address, const Vector<Wide<T>, N>& wide) {
  Vector<T, N> packed;
#pragma unroll
  for (int i = 0; i < N; ++i) packed.at[i] = narrow<T>(wide.at[i]);
  *reinterpret_cast<Vector<T, N>*>(address) = packed;
}

template <int N, typename A>
__device__ __forceinline__ void atomic_add(A* address, const Vector<A, N>& amount) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr int kAtOnce = std::is_same_v<A, float> && N % 4 == 0 ? 4 : 1;
#else
  constexpr int kAtOnce = 1;
#endif
#pragma unroll
  for (int i = 0; i < N; i += kAtOnce) {
    if constexpr (kAtOnce == 4) {
      atomicAdd(reinterpret_cast<float4*>(address + i),
                make_float4(amount.at[i], amount.at[i + 1], amount.at[i + 2], amount.at[i + 3]));
    } else {
      atomicAdd(address + i, amount.at[i]);
    }
  }
}

template <typename T>
__device__ __forceinline__ Wide<T> read(const Numbers& numbers, int64_t i) {
  if constexpr (sizeof(T) == 2) {
    if (numbers.narrow) return widen(static_cast<const T*>(numbers.data)[i]);
  }
  return static_cast<const Wide<T>*>(numbers.data)[i];
}

template <typename T>
__device__ __forceinline__ void write(const Results& results, int64_t i, Wide<T> number) {
  if constexpr (sizeof(T) == 2) {
    if (results.narrow) {
      static_cast<T*>(results.data)[i] = narrow<T>(number);
      return;
    }
  }
  static_cast<Wide<T>*>(results.data)[i] = number;
}

}  // namespace ms_deform_attn::cuda
