// The loops of the CPU kernels. Plain C++ that compilers vectorise over the channels.
#pragma once

#include <vector>

#include "../sample.h"

#if defined(__GNUC__) && defined(__x86_64__)
#define MSDA_AVX2 __attribute__((target("avx2,fma")))
#endif

#ifdef _MSC_VER
#define MSDA_RESTRICT __restrict
#else
#define MSDA_RESTRICT __restrict__
#endif

namespace ms_deform_attn::cpu {

struct ValueStrides {
  int64_t batch;
  int64_t pixel;
  int64_t head;
};

template <typename T>
struct Inputs {
  Shape shape;
  const Level* levels;
  const T* value;
  ValueStrides strides;
  const T* locations;
  const T* weights;
};

template <typename T>
struct Gradients {
  const T* output;
  T* value;  // zeros at first, with the strides of the value
  T* locations;
  T* weights;
};

// The samples of one head of one query, located all at once.
template <typename T>
class Samples {
 public:
  Samples(const Shape& shape, const Level* levels)
      : size_(shape.num_levels * shape.num_points), pixels_(4 * size_), distances_(2 * size_) {
    for (int64_t s = 0; s < size_; ++s) {
      const Level& level = levels[s / shape.num_points];
      starts_.push_back(level.start);
      heights_.push_back(level.height);
      widths_.push_back(level.width);
    }
  }

  MSDA_INLINE void locate(const T* locations) {
    const int64_t size = size_;
    const int32_t *starts = starts_.data(), *heights = heights_.data(), *widths = widths_.data();
    int32_t* pixels = pixels_.data();
    T* distances = distances_.data();
#pragma omp simd
    for (int64_t s = 0; s < size; ++s) {
      const auto sample = ms_deform_attn::locate<T>({starts[s], heights[s], widths[s]},
                                                    locations[2 * s], locations[2 * s + 1]);
      pixels[s] = sample.pixels[0];
      pixels[s + size] = sample.pixels[1];
      pixels[s + 2 * size] = sample.pixels[2];
      pixels[s + 3 * size] = sample.pixels[3];
      distances[s] = sample.right;
      distances[s + size] = sample.down;
    }
  }

  int64_t size() const { return size_; }

  MSDA_INLINE Sample<T> operator[](int64_t s) const {
    return {{pixels_[s], pixels_[s + size_], pixels_[s + 2 * size_], pixels_[s + 3 * size_]},
            distances_[s],
            distances_[s + size_]};
  }

  T width(int64_t s) const { return T(widths_[s]); }
  T height(int64_t s) const { return T(heights_[s]); }

 private:
  int64_t size_;
  std::vector<int32_t> pixels_;
  std::vector<T> distances_;
  std::vector<int32_t> starts_, heights_, widths_;
};

template <typename T>
MSDA_INLINE T* row(T* base, int32_t pixel, int64_t pixel_stride, T* padding) {
  return pixel == kOutside ? padding : base + pixel * pixel_stride;
}

// kDims is the number of channels of a head where it is known to the compiler, else 0.
template <typename T, int kDims>
MSDA_INLINE void forward_loop(const Inputs<T>& inputs, T* output, int64_t begin, int64_t end) {
  const Shape& shape = inputs.shape;
  const int64_t dims = kDims > 0 ? kDims : shape.head_dims;
  const int64_t stride = inputs.strides.pixel;
  const std::vector<T> padding(dims, T(0));
  Samples<T> samples(shape, inputs.levels);

  for (int64_t i = begin; i < end; ++i) {  // i counts queries within heads within images
    const int64_t query = i % shape.num_queries;
    const int64_t head = i / shape.num_queries % shape.num_heads;
    const int64_t image = i / shape.num_queries / shape.num_heads;
    const int64_t where = (image * shape.num_queries + query) * shape.num_heads + head;
    const T* value = inputs.value + image * inputs.strides.batch + head * inputs.strides.head;
    const T* weights = inputs.weights + where * samples.size();
    T* MSDA_RESTRICT out = output + where * dims;

    for (int64_t d = 0; d < dims; ++d) out[d] = 0;
    samples.locate(inputs.locations + where * samples.size() * 2);
    for (int64_t s = 0; s < samples.size(); ++s) {
      const auto sample = samples[s];
      const T* v0 = row<const T>(value, sample.pixels[0], stride, padding.data());
      const T* v1 = row<const T>(value, sample.pixels[1], stride, padding.data());
      const T* v2 = row<const T>(value, sample.pixels[2], stride, padding.data());
      const T* v3 = row<const T>(value, sample.pixels[3], stride, padding.data());
      const T bottom = weights[s] * sample.down, top = weights[s] - bottom;
      const T w1 = top * sample.right, w0 = top - w1;
      const T w3 = bottom * sample.right, w2 = bottom - w3;
#pragma omp simd
      for (int64_t d = 0; d < dims; ++d) {
        out[d] += w0 * v0[d] + w1 * v1[d] + w2 * v2[d] + w3 * v3[d];
      }
    }
  }
}

template <typename T, int kDims>
MSDA_INLINE void backward_loop(const Inputs<T>& inputs, const Gradients<T>& gradients,
                               int64_t begin, int64_t end) {
  const Shape& shape = inputs.shape;
  const int64_t dims = kDims > 0 ? kDims : shape.head_dims;
  const int64_t stride = inputs.strides.pixel;
  const std::vector<T> padding(dims, T(0));
  std::vector<T> ignored(dims, T(0));
  Samples<T> samples(shape, inputs.levels);

  for (int64_t i = begin; i < end; ++i) {  // i counts heads within images
    const int64_t image = i / shape.num_heads;
    const int64_t head = i % shape.num_heads;
    const int64_t offset = image * inputs.strides.batch + head * inputs.strides.head;
    const T* value = inputs.value + offset;
    T* grad_value = gradients.value + offset;

    for (int64_t query = 0; query < shape.num_queries; ++query) {
      const int64_t where = (image * shape.num_queries + query) * shape.num_heads + head;
      const T* MSDA_RESTRICT grad = gradients.output + where * dims;
      const T* weights = inputs.weights + where * samples.size();
      T* grad_weights = gradients.weights + where * samples.size();
      T* grad_locations = gradients.locations + where * samples.size() * 2;

      samples.locate(inputs.locations + where * samples.size() * 2);
      for (int64_t s = 0; s < samples.size(); ++s) {
        const auto sample = samples[s];
        const T* v0 = row<const T>(value, sample.pixels[0], stride, padding.data());
        const T* v1 = row<const T>(value, sample.pixels[1], stride, padding.data());
        const T* v2 = row<const T>(value, sample.pixels[2], stride, padding.data());
        const T* v3 = row<const T>(value, sample.pixels[3], stride, padding.data());
        T dot0 = 0, dot1 = 0, dot2 = 0, dot3 = 0;
#pragma omp simd reduction(+ : dot0, dot1, dot2, dot3)
        for (int64_t d = 0; d < dims; ++d) {
          dot0 += grad[d] * v0[d];
          dot1 += grad[d] * v1[d];
          dot2 += grad[d] * v2[d];
          dot3 += grad[d] * v3[d];
        }
        const T top = dot0 + sample.right * (dot1 - dot0);
        const T bottom = dot2 + sample.right * (dot3 - dot2);
        const T along_x = (dot1 - dot0) + sample.down * ((dot3 - dot2) - (dot1 - dot0));
        grad_weights[s] = top + sample.down * (bottom - top);
        grad_locations[2 * s] = weights[s] * samples.width(s) * along_x;
        grad_locations[2 * s + 1] = weights[s] * samples.height(s) * (bottom - top);

        const T lower = weights[s] * sample.down, upper = weights[s] - lower;
        const T w1 = upper * sample.right, w3 = lower * sample.right;
        const T pixel_weights[4] = {upper - w1, w1, lower - w3, w3};
        for (int c = 0; c < 4; ++c) {
          T* MSDA_RESTRICT g = row(grad_value, sample.pixels[c], stride, ignored.data());
          const T w = pixel_weights[c];
#pragma omp simd
          for (int64_t d = 0; d < dims; ++d) g[d] += w * grad[d];
        }
      }
    }
  }
}

template <typename T, int kDims>
void forward_portable(const Inputs<T>& inputs, T* output, int64_t begin, int64_t end) {
  forward_loop<T, kDims>(inputs, output, begin, end);
}

template <typename T, int kDims>
void backward_portable(const Inputs<T>& inputs, const Gradients<T>& gradients, int64_t begin,
                       int64_t end) {
  backward_loop<T, kDims>(inputs, gradients, begin, end);
}

#ifdef MSDA_AVX2
template <typename T, int kDims>
MSDA_AVX2 void forward_avx2(const Inputs<T>& inputs, T* output, int64_t begin, int64_t end) {
  forward_loop<T, kDims>(inputs, output, begin, end);
}

template <typename T, int kDims>
MSDA_AVX2 void backward_avx2(const Inputs<T>& inputs, const Gradients<T>& gradients, int64_t begin,
                             int64_t end) {
  backward_loop<T, kDims>(inputs, gradients, begin, end);
}

inline bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}
#endif

template <typename T, int kDims>
void forward_best(const Inputs<T>& inputs, T* output, int64_t begin, int64_t end) {
#ifdef MSDA_AVX2
  if (has_avx2()) return forward_avx2<T, kDims>(inputs, output, begin, end);
#endif
  forward_portable<T, kDims>(inputs, output, begin, end);
}

template <typename T, int kDims>
void backward_best(const Inputs<T>& inputs, const Gradients<T>& gradients, int64_t begin,
                   int64_t end) {
#ifdef MSDA_AVX2
  if (has_avx2()) return backward_avx2<T, kDims>(inputs, gradients, begin, end);
#endif
  backward_portable<T, kDims>(inputs, gradients, begin, end);
}

// Writes the outputs of [begin, end), which counts queries within heads within images.
template <typename T>
void forward_kernel(const Inputs<T>& inputs, T* output, int64_t begin, int64_t end) {
  switch (inputs.shape.head_dims) {
    case 16: return forward_best<T, 16>(inputs, output, begin, end);
    case 32: return forward_best<T, 32>(inputs, output, begin, end);
    case 64: return forward_best<T, 64>(inputs, output, begin, end);
    default: return forward_best<T, 0>(inputs, output, begin, end);
  }
}

// Writes the gradients of [begin, end), which counts heads within images.
template <typename T>
void backward_kernel(const Inputs<T>& inputs, const Gradients<T>& gradients, int64_t begin,
                     int64_t end) {
  switch (inputs.shape.head_dims) {
    case 16: return backward_best<T, 16>(inputs, gradients, begin, end);
    case 32: return backward_best<T, 32>(inputs, gradients, begin, end);
    case 64: return backward_best<T, 64>(inputs, gradients, begin, end);
    default: return backward_best<T, 0>(inputs, gradients, begin, end);
  }
}

}  // namespace ms_deform_attn::cpu
