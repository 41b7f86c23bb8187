// Vectors of MSDA_VECTOR_BYTES, in the instruction set that the including file is compiled for.
//
// Neither this file nor those that include it use inline functions of the standard library: the
// linker keeps one copy of such a function, and it might keep one that the machine cannot run.
#pragma once

#if MSDA_VECTOR_BYTES >= 32
#include <immintrin.h>
#endif

#include "../sample.h"
#include "problem.h"

#ifdef _MSC_VER
#define MSDA_RESTRICT __restrict
#else
#define MSDA_RESTRICT __restrict__
#endif

#ifdef __GNUC__
#define MSDA_INLINE_LAMBDA __attribute__((always_inline))
#else
#define MSDA_INLINE_LAMBDA
#endif

namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET {

// Calls run(0) ... run(n - 1) without a loop: arrays of vectors that run indexes become registers.
template <int n, typename Run>
MSDA_INLINE void repeat(const Run& run) {
  if constexpr (n > 0) {
    repeat<n - 1>(run);
    run(n - 1);
  }
}

template <typename T, int n>
struct VectorOf {
#ifdef __GNUC__
  typedef T type __attribute__((vector_size(n * sizeof(T))));
#endif
};
template <typename T>
struct VectorOf<T, 1> {
  using type = T;
};

// n numbers, which arithmetic and comparison treat one by one.
template <typename T, int n>
using Vector = typename VectorOf<T, n>::type;

// How many numbers the widest vector holds.
template <typename T>
constexpr int kLanes = MSDA_VECTOR_BYTES > sizeof(T) ? MSDA_VECTOR_BYTES / sizeof(T) : 1;

template <typename To, typename From>
MSDA_INLINE To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
#ifdef __GNUC__
  __builtin_memcpy(&to, &from, sizeof(To));
#else
  memcpy(&to, &from, sizeof(To));
#endif
  return to;
}

template <typename To, int n, typename From>
MSDA_INLINE Vector<To, n> numbers_as(const From& from) {
#ifdef __GNUC__
  if constexpr (n > 1) return __builtin_convertvector(from, Vector<To, n>);
#endif
  if constexpr (n == 1) return To(from);
}

template <typename V>
MSDA_INLINE V from_memory(const void* memory) {
  struct Bytes {
    char bytes[sizeof(V)];
  };
  return bits_as<V>(*static_cast<const Bytes*>(memory));
}

template <typename V>
MSDA_INLINE void to_memory(void* memory, const V& vector) {
#ifdef __GNUC__
  __builtin_memcpy(memory, &vector, sizeof(V));
#else
  memcpy(memory, &vector, sizeof(V));
#endif
}

template <int n>
MSDA_INLINE Vector<float, n> load(const float* memory) {
  return from_memory<Vector<float, n>>(memory);
}

template <int n>
MSDA_INLINE Vector<double, n> load(const double* memory) {
  return from_memory<Vector<double, n>>(memory);
}

template <int n>
MSDA_INLINE Vector<float, n> load(const BFloat16* memory) {
#if MSDA_VECTOR_BYTES >= 64
  if constexpr (n == 16) {
    const __m512i bits = _mm512_cvtepu16_epi32(from_memory<__m256i>(memory));
    return bits_as<Vector<float, n>>(_mm512_slli_epi32(bits, 16));
  }
#endif
#if MSDA_VECTOR_BYTES >= 32
  if constexpr (n == 8) {
    const __m256i bits = _mm256_cvtepu16_epi32(from_memory<__m128i>(memory));
    return bits_as<Vector<float, n>>(_mm256_slli_epi32(bits, 16));
  }
#endif
  const auto bits = numbers_as<uint32_t, n>(from_memory<Vector<uint16_t, n>>(memory));
  return bits_as<Vector<float, n>>(Vector<uint32_t, n>(bits << 16));
}

template <int n>
MSDA_INLINE Vector<float, n> load(const Float16* memory) {
#if MSDA_VECTOR_BYTES >= 64
  if constexpr (n == 16) {
    return bits_as<Vector<float, n>>(_mm512_cvtph_ps(from_memory<__m256i>(memory)));
  }
#endif
#if MSDA_VECTOR_BYTES >= 32
  if constexpr (n == 8) {
    return bits_as<Vector<float, n>>(_mm256_cvtph_ps(from_memory<__m128i>(memory)));
  }
#endif
  using Bits = Vector<uint32_t, n>;
  const Bits bits = numbers_as<uint32_t, n>(from_memory<Vector<uint16_t, n>>(memory));
  const Bits sign = (bits & 0x8000u) << 16, magnitude = (bits & 0x7fffu) << 13;
  // The power of two moves the exponent's bias, and normalises what is subnormal.
  const Bits finite = bits_as<Bits>(
      Vector<float, n>(bits_as<Vector<float, n>>(magnitude) * 5.192296858534828e33f));
  return bits_as<Vector<float, n>>(
      Bits(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite)));
}

template <int n>
MSDA_INLINE void store(float* memory, const Vector<float, n>& numbers) {
  to_memory(memory, numbers);
}

template <int n>
MSDA_INLINE void store(double* memory, const Vector<double, n>& numbers) {
  to_memory(memory, numbers);
}

// Rounds to the nearest, halves to even.
template <int n>
MSDA_INLINE void store(BFloat16* memory, const Vector<float, n>& numbers) {
  using Bits = Vector<uint32_t, n>;
  const Bits bits = bits_as<Bits>(numbers);
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Bits result = (bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded;
  to_memory(memory, numbers_as<uint16_t, n>(result));
}

template <int n>
MSDA_INLINE void store(Float16* memory, const Vector<float, n>& numbers) {
  using Bits = Vector<uint32_t, n>;
  const Bits bits = bits_as<Bits>(numbers);
  const Bits sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  const Bits normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Beside one half, the last bit of a float is worth the last bit of a subnormal.
  const Bits subnormal =
      bits_as<Bits>(Vector<float, n>(bits_as<Vector<float, n>>(magnitude) + 0.5f)) - 0x3f000000u;
  const Bits finite = magnitude < 0x38800000u ? subnormal : normal;
  const Bits zero = magnitude & 0u;
  const Bits none = magnitude > 0x7f800000u ? zero | 0x7e00u : zero | 0x7c00u;
  const Bits result = sign | (magnitude >= 0x47800000u ? none : finite);
  to_memory(memory, numbers_as<uint16_t, n>(result));
}

// Prefetches n numbers, for reading or, if kWrite, for writing.
template <int kWrite, typename T>
MSDA_INLINE void prefetch(const T* memory, int64_t n) {
#ifdef __GNUC__
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < n; i += kLine) __builtin_prefetch(memory + i, kWrite);
#endif
}

#if MSDA_VECTOR_BYTES >= 32
// Sums of a's numbers and of b's in turn, half as many of each as before.
MSDA_INLINE __m256 fold(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
}
#endif

// Adds to each of four sums the numbers of its vector.
template <typename T, int n>
MSDA_INLINE void accumulate(T* sums, const Vector<T, n> (&vectors)[4]) {
#if MSDA_VECTOR_BYTES >= 32
  if constexpr (sizeof(T) == 4 && n >= 8) {
    __m256 eights[4];
    for (int i = 0; i < 4; ++i) {
#if MSDA_VECTOR_BYTES >= 64
      if constexpr (n == 16) {
        __m256 halves[2];
        to_memory(halves, vectors[i]);
        eights[i] = _mm256_add_ps(halves[0], halves[1]);
      }
#endif
      if constexpr (n == 8) eights[i] = bits_as<__m256>(vectors[i]);
    }
    const __m256 both = fold(fold(eights[0], eights[2]), fold(eights[1], eights[3]));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    _mm_storeu_ps(sums, _mm_add_ps(_mm_loadu_ps(sums), four));
    return;
  }
#endif
  for (int i = 0; i < 4; ++i) {
    T numbers[n];
    to_memory(numbers, vectors[i]);
    for (int lane = 0; lane < n; ++lane) sums[i] += numbers[lane];
  }
}

// The exponential of a number that is at most zero; what is smaller than a normal float becomes
// zero. Free of branches, so that compilers vectorise it.
MSDA_INLINE float exp_of_negative(float x) {
  // x = n ln 2 + r; adding and subtracting 1.5 * 2^23 rounds to an integer.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float series = 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const float power = bits_as<float>((bits_as<uint32_t>(shifted) << 23) + 0x3f800000u);
  return x < -87.0f ? 0.0f : series * power;
}

MSDA_INLINE double exp_of_negative(double x) { return ::exp(x); }

// Zero-initialised scratch memory, aligned to a cache line.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size)
      : memory_(new char[size * sizeof(T) + kLine]()),
        data_(reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory_) + kLine - 1) / kLine *
                                   kLine)) {}
  ~Buffer() { delete[] memory_; }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  MSDA_INLINE T* data() const { return data_; }
  MSDA_INLINE T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr int64_t kLine = 64;
  char* memory_;
  T* data_;
};

}  // namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET
