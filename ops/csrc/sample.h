// Where a sample lies: the one definition for all kernels. Includes nothing of torch.
#pragma once

#include <cmath>
#include <cstdint>

#include "shape.h"

#if defined(__CUDACC__)
#define MSDA_INLINE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define MSDA_INLINE inline __attribute__((always_inline))
#else
#define MSDA_INLINE inline
#endif

namespace ms_deform_attn {

constexpr int32_t kOutside = -1;

// Positions in the value of the sample's four pixels (top left, top right, bottom left, bottom
// right), and its distance from the top left one. kOutside marks zero padding.
template <typename T>
struct Sample {
  int32_t pixels[4];
  T right;
  T down;
};

// The sample at x and y in pixels, where 0 is the centre of the first. Free of branches, so that
// compilers vectorise it over samples.
template <typename T>
MSDA_INLINE Sample<T> locate_pixel(const Level& level, T x, T y) {
  const bool inside = (x > -1) & (y > -1) & (x < T(level.width)) & (y < T(level.height));
  const T safe_x = inside ? x : T(0), safe_y = inside ? y : T(0);
  const int32_t left = int32_t(safe_x) - (safe_x < 0);  // floor, as x > -1
  const int32_t top = int32_t(safe_y) - (safe_y < 0);
  const int32_t first = level.start + top * level.width + left;

  // Each is kOutside, all bits one, or zero: or-ing it marks a position as outside or leaves it.
  const int32_t all = inside ? 0 : kOutside;
  const int32_t lefts = left < 0 ? kOutside : all;
  const int32_t rights = left + 1 == level.width ? kOutside : all;
  const int32_t tops = top < 0 ? kOutside : 0;
  const int32_t bottoms = top + 1 == level.height ? kOutside : 0;

  // Outside is zero; a NaN location gives NaN.
  const T padding = ((x != x) | (y != y)) ? T(NAN) : T(0);
  return {{first | tops | lefts,
           (first + 1) | tops | rights,
           (first + level.width) | bottoms | lefts,
           (first + level.width + 1) | bottoms | rights},
          inside ? safe_x - T(left) : padding,
          inside ? safe_y - T(top) : padding};
}

// The sample at a location in [0, 1].
template <typename T>
MSDA_INLINE Sample<T> locate(const Level& level, T x, T y) {
  return locate_pixel<T>(level, x * T(level.width) - T(0.5), y * T(level.height) - T(0.5));
}

}  // namespace ms_deform_attn
