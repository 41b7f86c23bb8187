// The pixels of one head of one image: strided as in the value, or packed into contiguous memory.
#pragma once

#include "simd.h"

namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET {

// Calls run(count, first channel) for all channels, in groups of n and then of smaller counts.
template <int n, typename Run>
MSDA_INLINE void for_channels(int64_t dims, const Run& run, int64_t first = 0) {
  for (; first + n <= dims; first += n) run.template operator()<n>(first);
  if constexpr (n > 1) for_channels<n / 2>(dims, run, first);
}

// The first of a head's channels in the first pixel of an image.
MSDA_INLINE int64_t start_of(const Shape& shape, int64_t image, int64_t head) {
  return (image * shape.num_value * shape.num_heads + head) * shape.head_dims;
}

// Pixels in a tensor laid out as the value, whose heads are side by side.
template <typename V>
class StridedPixels {
 public:
  // outside: a head's channels of zeros, for what lies outside the level.
  MSDA_INLINE StridedPixels(const Shape& shape, V* first, V* outside)
      : first_(first), stride_(shape.num_heads * shape.head_dims), outside_(outside) {}

  MSDA_INLINE V* row(int32_t pixel) const {
    return pixel < 0 ? outside_ : first_ + pixel * stride_;
  }

 private:
  V* first_;
  int64_t stride_;
  V* outside_;
};

// Pixels next to each other, so that neighbours share cache lines and pages. Row kOutside, the one
// before the first, stands for everything outside the level.
template <typename T>
class PackedPixels {
 public:
  explicit PackedPixels(const Shape& shape)
      : stride_(shape.head_dims), rows_((shape.num_value + 1) * stride_) {}

  MSDA_INLINE T* row(int32_t pixel) const { return rows_.data() + (pixel + 1) * stride_; }

  template <typename V>
  MSDA_INLINE void copy(const V* value, const Shape& shape) const {
    const int64_t stride = shape.num_heads * shape.head_dims;
    for (int64_t pixel = 0; pixel < shape.num_value; ++pixel) {
      const V* from = value + pixel * stride;
      prefetch<0>(from + kRowsAhead * stride, shape.head_dims);
      T* to = row(pixel);
      for_channels<kLanes<T>>(shape.head_dims, Move<V, T>{from, to});
    }
  }

  // Leaves zeros.
  template <typename V>
  MSDA_INLINE void move_to(V* value, const Shape& shape) const {
    const int64_t stride = shape.num_heads * shape.head_dims;
    for (int64_t pixel = 0; pixel < shape.num_value; ++pixel) {
      T* from = row(pixel);
      prefetch<1>(value + (pixel + kRowsAhead) * stride, shape.head_dims);
      for_channels<kLanes<T>>(shape.head_dims, Move<T, V>{from, value + pixel * stride});
      for (int64_t i = 0; i < shape.head_dims; ++i) from[i] = 0;
    }
  }

 private:
  template <typename From, typename To>
  struct Move {
    const From* from;
    To* to;
    template <int n>
    MSDA_INLINE void operator()(int64_t channel) const {
      store<n>(to + channel, load<n>(from + channel));
    }
  };

  static constexpr int64_t kRowsAhead = 24;
  int64_t stride_;
  Buffer<T> rows_;
};

}  // namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET
