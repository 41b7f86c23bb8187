// The samples of one head of one query: their pixels and the weight of each.
#pragma once

#include "simd.h"

namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET {

template <typename V>
class Samples {
  using T = Math<V>;

 public:
  explicit Samples(const Inputs<V>& inputs)
      : inputs_(inputs),
        size_(inputs.shape.num_levels * inputs.shape.num_points),
        levels_(3 * size_),
        transforms_(4 * size_),
        weights_(size_),
        distances_(2 * size_),
        pixels_(4 * size_),
        pixel_weights_(4 * size_),
        dots_(4 * size_),
        slopes_(2 * size_) {
    for (int64_t s = 0; s < size_; ++s) {
      const Level& level = inputs.levels[s / inputs.shape.num_points];
      levels_[s] = level.start;
      levels_[s + size_] = level.height;
      levels_[s + 2 * size_] = level.width;
      // Of sampling locations; for offsets in pixels `set_transforms` sets the origins.
      transforms_[s] = transforms_[s + size_] = T(-0.5);
      const bool in_pixels = inputs.reference_points != nullptr;
      transforms_[s + 2 * size_] = in_pixels ? T(1) : T(level.width);
      transforms_[s + 3 * size_] = in_pixels ? T(1) : T(level.height);
    }
  }

  int64_t size() const { return size_; }

  // Of pixel `corner` of sample s: its position in the value, kOutside outside the level, and its
  // weight in the output.
  MSDA_INLINE int32_t pixel(int64_t s, int corner) const { return pixels_[s + corner * size_]; }
  MSDA_INLINE T weight(int64_t s, int corner) const { return pixel_weights_[s + corner * size_]; }

  // Of sample s: the dot product of the output's gradient with each of the four pixels.
  MSDA_INLINE T* dots(int64_t s) const { return dots_.data() + 4 * s; }

  // `query` counts within images.
  MSDA_INLINE void read(int64_t query, int64_t head) {
    const int64_t first = (query * inputs_.shape.num_heads + head) * size_;
    if (inputs_.reference_points != nullptr) {
      set_transforms(inputs_.reference_points +
            query * inputs_.shape.num_levels * inputs_.reference_dims);
      softmax(inputs_.weights + first);
    } else {
      for (int64_t s = 0; s < size_; ++s) weights_[s] = inputs_.weights[first + s];
    }
    locate(inputs_.coordinates + 2 * first);
  }

  // Prefetches what `read` will need: one head's inputs are too far apart from query to query for
  // the hardware prefetcher.
  MSDA_INLINE void prefetch_inputs(int64_t query, int64_t head) const {
    const int64_t first = (query * inputs_.shape.num_heads + head) * size_;
    prefetch<0>(inputs_.coordinates + 2 * first, 2 * size_);
    prefetch<0>(inputs_.weights + first, size_);
  }

  MSDA_INLINE void prefetch_gradients(const Gradients<V>& gradients, int64_t query,
                                      int64_t head) const {
    const int64_t where = query * inputs_.shape.num_heads + head;
    prefetch<0>(gradients.output + where * inputs_.shape.head_dims, inputs_.shape.head_dims);
    prefetch<1>(gradients.coordinates + 2 * where * size_, 2 * size_);
    prefetch<1>(gradients.weights + where * size_, size_);
  }

  // Turns the dots into gradients.
  MSDA_INLINE void write(const Gradients<V>& gradients, int64_t query, int64_t head) const {
    const int64_t where = query * inputs_.shape.num_heads + head;
    T* grad_weights = gradients.weights + where * size_;
    differentiate(gradients.coordinates + 2 * where * size_, grad_weights);
    if (inputs_.reference_points == nullptr) return;
    const int64_t size = inputs_.shape.num_levels * inputs_.reference_dims;
    differentiate_reference_points(inputs_.coordinates + 2 * where * size_,
                        gradients.reference_points + where * size);
    differentiate_softmax(grad_weights);
  }

 private:
  // Pixel = origin + scale * offset: transforms_ holds the origins of x and y, then the scales.
  MSDA_INLINE void set_transforms(const T* reference_points) {
    const int64_t dims = inputs_.reference_dims, num_points = inputs_.shape.num_points;
    const T half_step = T(0.5) / T(num_points);
    for (int64_t l = 0, s = 0; l < inputs_.shape.num_levels; ++l) {
      const T* point = reference_points + l * dims;
      const T width = T(inputs_.levels[l].width), height = T(inputs_.levels[l].height);
      const T x = point[0] * width - T(0.5), y = point[1] * height - T(0.5);
      for (int64_t p = 0; p < num_points; ++p, ++s) {
        transforms_[s] = x;
        transforms_[s + size_] = y;
        if (dims == 4) {
          transforms_[s + 2 * size_] = point[2] * half_step * width;
          transforms_[s + 3 * size_] = point[3] * half_step * height;
        }
      }
    }
  }

  MSDA_INLINE void softmax(const T* MSDA_RESTRICT logits) {
    T* MSDA_RESTRICT weights = weights_.data();
    const int64_t size = size_;
    T largest = size > 0 ? logits[0] : T(0), sum = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t s = 0; s < size; ++s) largest = logits[s] > largest ? logits[s] : largest;
#pragma omp simd reduction(+ : sum)
    for (int64_t s = 0; s < size; ++s) {
      weights[s] = exp_of_negative(logits[s] - largest);
      sum += weights[s];
    }
    const T scale = 1 / sum;
    for (int64_t s = 0; s < size; ++s) weights[s] *= scale;
  }

  MSDA_INLINE void locate(const T* MSDA_RESTRICT coordinates) {
    const int64_t size = size_;
    const int32_t* levels = levels_.data();
    const T *transforms = transforms_.data(), *weights = weights_.data();
    T *distances = distances_.data(), *pixel_weights = pixel_weights_.data();
    int32_t* pixels = pixels_.data();
#pragma omp simd
    for (int64_t s = 0; s < size; ++s) {
      const auto sample = locate_pixel<T>(
          {levels[s], levels[s + size], levels[s + 2 * size]},
          transforms[s] + transforms[s + 2 * size] * coordinates[2 * s],
          transforms[s + size] + transforms[s + 3 * size] * coordinates[2 * s + 1]);
      const T lower = weights[s] * sample.down, upper = weights[s] - lower;
      const T lower_right = lower * sample.right, upper_right = upper * sample.right;
      distances[s] = sample.right;
      distances[s + size] = sample.down;
      pixel_weights[s] = upper - upper_right;
      pixel_weights[s + size] = upper_right;
      pixel_weights[s + 2 * size] = lower - lower_right;
      pixel_weights[s + 3 * size] = lower_right;
      pixels[s] = sample.pixels[0];
      pixels[s + size] = sample.pixels[1];
      pixels[s + 2 * size] = sample.pixels[2];
      pixels[s + 3 * size] = sample.pixels[3];
    }
  }

  MSDA_INLINE void differentiate(T* MSDA_RESTRICT grad_coordinates,
                                 T* MSDA_RESTRICT grad_weights) const {
    const int64_t size = size_;
    const T *dots = dots_.data(), *distances = distances_.data();
    const T *weights = weights_.data(), *scales = transforms_.data() + 2 * size;
    T* slopes = slopes_.data();
#pragma omp simd
    for (int64_t s = 0; s < size; ++s) {
      const T right = distances[s], down = distances[s + size];
      const T along_top = dots[4 * s + 1] - dots[4 * s];
      const T along_bottom = dots[4 * s + 3] - dots[4 * s + 2];
      const T top = dots[4 * s] + right * along_top;
      const T bottom = dots[4 * s + 2] + right * along_bottom;
      grad_weights[s] = top + down * (bottom - top);
      slopes[s] = weights[s] * (along_top + down * (along_bottom - along_top));
      slopes[s + size] = weights[s] * (bottom - top);
      grad_coordinates[2 * s] = slopes[s] * scales[s];
      grad_coordinates[2 * s + 1] = slopes[s + size] * scales[s + size];
    }
  }

  // Sums the gradients of a level's samples: the backward of `set_transforms`.
  MSDA_INLINE void differentiate_reference_points(const T* offsets, T* grad_reference_points) const {
    const int64_t dims = inputs_.reference_dims, num_points = inputs_.shape.num_points;
    const T half_step = T(0.5) / T(num_points);
    for (int64_t l = 0; l < inputs_.shape.num_levels; ++l) {
      T x = 0, y = 0, width = 0, height = 0;
      for (int64_t s = l * num_points; s < (l + 1) * num_points; ++s) {
        x += slopes_[s];
        y += slopes_[s + size_];
        width += slopes_[s] * offsets[2 * s];
        height += slopes_[s + size_] * offsets[2 * s + 1];
      }
      const T pixels_x = T(inputs_.levels[l].width), pixels_y = T(inputs_.levels[l].height);
      T* grad = grad_reference_points + l * dims;
      grad[0] = x * pixels_x;
      grad[1] = y * pixels_y;
      if (dims == 4) {
        grad[2] = width * half_step * pixels_x;
        grad[3] = height * half_step * pixels_y;
      }
    }
  }

  MSDA_INLINE void differentiate_softmax(T* MSDA_RESTRICT grad_weights) const {
    const int64_t size = size_;
    const T* weights = weights_.data();
    T mean = 0;
#pragma omp simd reduction(+ : mean)
    for (int64_t s = 0; s < size; ++s) mean += weights[s] * grad_weights[s];
#pragma omp simd
    for (int64_t s = 0; s < size; ++s) grad_weights[s] = weights[s] * (grad_weights[s] - mean);
  }

  const Inputs<V>& inputs_;
  int64_t size_;
  Buffer<int32_t> levels_;
  Buffer<T> transforms_, weights_, distances_;
  Buffer<int32_t> pixels_;
  Buffer<T> pixel_weights_, dots_;
  Buffer<T> slopes_;  // gradients of a sample's x and y in pixels
};

}  // namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET
