// The CPU kernels, for the instruction set MSDA_INSTRUCTION_SET. A kernel_*.cpp includes this.
#pragma once

#include "pixels.h"
#include "samples.h"

namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET {

// The channels held in registers at a time.
template <typename T>
constexpr int kChannels = 128 / int(sizeof(T));

// How many queries ahead inputs are prefetched.
constexpr int64_t kAhead = 6;

// n channels of the output.
template <typename V, typename Pixels>
struct SumPixels {
  const Samples<V>& samples;
  const Pixels& pixels;
  V* output;

  template <int n>
  MSDA_INLINE void operator()(int64_t channel) const {
    using T = Math<V>;
    constexpr int width = n < kLanes<T> ? n : kLanes<T>;
    constexpr int count = n / width;
    Vector<T, width> sums[2][count] = {};  // two, as an addition waits for the one before
    for (int64_t s = 0; s < samples.size(); ++s) {
      repeat<4>([&](int corner) MSDA_INLINE_LAMBDA {
        const auto* pixel = pixels.row(samples.pixel(s, corner)) + channel;
        const T weight = samples.weight(s, corner);
        repeat<count>([&](int i) MSDA_INLINE_LAMBDA {
          sums[corner / 2][i] += weight * load<width>(pixel + i * width);
        });
      });
    }
    repeat<count>([&](int i) MSDA_INLINE_LAMBDA {
      store<width>(output + channel + i * width, sums[0][i] + sums[1][i]);
    });
  }
};

// What n channels add to the gradients of the pixels, and to the dots.
template <typename V, typename Pixels, typename GradPixels>
struct ScatterGradient {
  const Samples<V>& samples;
  const Pixels& pixels;
  const GradPixels& grad_pixels;
  const V* grad_output;

  template <int n>
  MSDA_INLINE void operator()(int64_t channel) const {
    using T = Math<V>;
    constexpr int width = n < kLanes<T> ? n : kLanes<T>;
    constexpr int count = n / width;
    Vector<T, width> grads[count];
    repeat<count>([&](int i) MSDA_INLINE_LAMBDA {
      grads[i] = load<width>(grad_output + channel + i * width);
    });
    for (int64_t s = 0; s < samples.size(); ++s) {
      Vector<T, width> products[4] = {};
      repeat<4>([&](int corner) MSDA_INLINE_LAMBDA {
        const auto* pixel = pixels.row(samples.pixel(s, corner)) + channel;
        T* grad_pixel = grad_pixels.row(samples.pixel(s, corner)) + channel;
        const T weight = samples.weight(s, corner);
        repeat<count>([&](int i) MSDA_INLINE_LAMBDA {
          products[corner] += grads[i] * load<width>(pixel + i * width);
          T* sums = grad_pixel + i * width;
          store<width>(sums, load<width>(sums) + weight * grads[i]);
        });
      });
      accumulate<T, width>(samples.dots(s), products);
    }
  }
};

template <typename V, typename Pixels>
MSDA_INLINE void forward_one(const Inputs<V>& inputs, Samples<V>& samples, const Pixels& pixels,
                             V* output, int64_t query, int64_t head) {
  const Shape& shape = inputs.shape;
  samples.read(query, head);
  V* out = output + (query * shape.num_heads + head) * shape.head_dims;
  for_channels<kChannels<Math<V>>>(shape.head_dims, SumPixels<V, Pixels>{samples, pixels, out});
}

template <typename V, typename Pixels, typename GradPixels>
MSDA_INLINE void backward_one(const Inputs<V>& inputs, const Gradients<V>& gradients,
                              Samples<V>& samples, const Pixels& pixels,
                              const GradPixels& grad_pixels, int64_t query, int64_t head) {
  const Shape& shape = inputs.shape;
  samples.read(query, head);
  for (int64_t s = 0; s < 4 * samples.size(); ++s) samples.dots(0)[s] = 0;
  const V* grad = gradients.output + (query * shape.num_heads + head) * shape.head_dims;
  for_channels<kChannels<Math<V>>>(
      shape.head_dims,
      ScatterGradient<V, Pixels, GradPixels>{samples, pixels, grad_pixels, grad});
  samples.write(gradients, query, head);
}

template <typename V>
void forward_strided(const Inputs<V>& inputs, V* output, int64_t begin, int64_t end) {
  const Shape& shape = inputs.shape;
  Samples<V> samples(inputs);
  const Buffer<V> outside(shape.head_dims);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t query = i / shape.num_heads, head = i - query * shape.num_heads;
    const V* value = inputs.value + start_of(shape, query / shape.num_queries, head);
    const StridedPixels<const V> pixels(shape, value, outside.data());
    forward_one(inputs, samples, pixels, output, query, head);
  }
}

template <typename V>
void forward_packed(const Inputs<V>& inputs, V* output, int64_t begin, int64_t end) {
  const Shape& shape = inputs.shape;
  Samples<V> samples(inputs);
  const PackedPixels<Math<V>> pixels(shape);
  while (begin < end) {
    const int64_t pair = begin / shape.num_queries, position = begin - pair * shape.num_queries;
    const int64_t image = pair / shape.num_heads, head = pair - image * shape.num_heads;
    const int64_t rest = shape.num_queries - position;
    const int64_t count = end - begin < rest ? end - begin : rest;
    pixels.copy(inputs.value + start_of(shape, image, head), shape);
    const int64_t first = image * shape.num_queries;
    const int64_t* order = inputs.order + position;
    for (int64_t i = 0; i < count; ++i) {
      if (i + kAhead < count) samples.prefetch_inputs(first + order[i + kAhead], head);
      forward_one(inputs, samples, pixels, output, first + order[i], head);
    }
    begin += count;
  }
}

template <typename V>
void backward_strided(const Inputs<V>& inputs, const Gradients<V>& gradients, int64_t begin,
                       int64_t end) {
  const Shape& shape = inputs.shape;
  Samples<V> samples(inputs);
  const Buffer<V> outside(shape.head_dims);
  const Buffer<Math<V>> ignored(shape.head_dims);
  while (begin < end) {
    const int64_t image = begin / shape.num_heads, heads = image * shape.num_heads;
    const int64_t last = end < heads + shape.num_heads ? end : heads + shape.num_heads;
    for (int64_t q = 0; q < shape.num_queries; ++q) {
      for (int64_t head = begin - heads; head < last - heads; ++head) {
        const int64_t start = start_of(shape, image, head);
        const StridedPixels<const V> pixels(shape, inputs.value + start, outside.data());
        const StridedPixels<Math<V>> grad_pixels(shape, gradients.value_sums + start, ignored.data());
        backward_one(inputs, gradients, samples, pixels, grad_pixels, image * shape.num_queries + q,
                     head);
      }
    }
    begin = last;
  }
}

template <typename V>
void backward_packed(const Inputs<V>& inputs, const Gradients<V>& gradients, int64_t begin,
                      int64_t end) {
  const Shape& shape = inputs.shape;
  Samples<V> samples(inputs);
  const PackedPixels<Math<V>> pixels(shape), grad_pixels(shape);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t image = i / shape.num_heads, head = i - image * shape.num_heads;
    pixels.copy(inputs.value + start_of(shape, image, head), shape);
    const int64_t first = image * shape.num_queries;
    for (int64_t q = 0; q < shape.num_queries; ++q) {
      if (q + kAhead < shape.num_queries) {
        const int64_t later = first + inputs.order[q + kAhead];
        samples.prefetch_inputs(later, head);
        samples.prefetch_gradients(gradients, later, head);
      }
      backward_one(inputs, gradients, samples, pixels, grad_pixels, first + inputs.order[q], head);
    }
    grad_pixels.move_to(gradients.value + start_of(shape, image, head), shape);
  }
}

template <typename V>
void forward(const Inputs<V>& inputs, V* output, int64_t begin, int64_t end) {
  inputs.packed ? forward_packed(inputs, output, begin, end)
                : forward_strided(inputs, output, begin, end);
}

template <typename V>
void backward(const Inputs<V>& inputs, const Gradients<V>& gradients, int64_t begin, int64_t end) {
  inputs.packed ? backward_packed(inputs, gradients, begin, end)
                : backward_strided(inputs, gradients, begin, end);
}

#define MSDA_INSTANTIATE(V)                                              \
  template void forward<V>(const Inputs<V>&, V*, int64_t, int64_t);      \
  template void backward<V>(const Inputs<V>&, const Gradients<V>&, int64_t, int64_t);

MSDA_INSTANTIATE(float)
MSDA_INSTANTIATE(double)
MSDA_INSTANTIATE(Float16)
MSDA_INSTANTIATE(BFloat16)

}  // namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET
