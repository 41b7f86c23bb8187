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

constexpr int64_t kOutside = -1;

// Offsets of the sample's four pixels (top left, top right, bottom left, bottom right) from the
// first of the head, and its distance from the top left one. kOutside marks zero padding.
template <typename T>
struct Sample {
  int64_t corners[4];
  T right;
  T down;
};

template <typename T>
MSDA_INLINE Sample<T> locate(const Level& level, T x_location, T y_location, int64_t pixel_stride) {
  const T x = x_location * T(level.width) - T(0.5);
  const T y = y_location * T(level.height) - T(0.5);
  if (!(x > -1 && y > -1 && x < T(level.width) && y < T(level.height))) {
    // Far outside counts as zero; a location that is no number gives a result that is none.
    const T distance = x != x || y != y ? T(NAN) : T(0);
    return {{kOutside, kOutside, kOutside, kOutside}, distance, distance};
  }
  const int64_t left = int64_t(x) - (x < 0);  // floor, as x > -1
  const int64_t top = int64_t(y) - (y < 0);
  const int64_t down_stride = level.width * pixel_stride;
  const int64_t corner = level.start * pixel_stride + top * down_stride + left * pixel_stride;
  Sample<T> sample{{corner, corner + pixel_stride, corner + down_stride,
                    corner + down_stride + pixel_stride},
                   x - T(left),
                   y - T(top)};
  if (left < 0) sample.corners[0] = sample.corners[2] = kOutside;
  if (left + 1 == level.width) sample.corners[1] = sample.corners[3] = kOutside;
  if (top < 0) sample.corners[0] = sample.corners[1] = kOutside;
  if (top + 1 == level.height) sample.corners[2] = sample.corners[3] = kOutside;
  return sample;
}

}  // namespace ms_deform_attn
