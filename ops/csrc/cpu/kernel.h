// The CPU kernels, for the instruction set MSDA_INSTRUCTION_SET. A kernel_*.cpp includes this.
#pragma once

#include "samples.h"

namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET {

// As many channels as are worth holding in registers at a time.
template <typename T>
constexpr int kChannels = 128 / int(sizeof(T));

// How many queries before its use an input is asked for.
constexpr int64_t kAhead = 6;

// Calls run(count, first channel) for all channels, in groups of n and then of smaller counts.
template <int n, typename Run>
MSDA_INLINE void for_channels(int64_t dims, const Run& run, int64_t first = 0) {
  for (; first + n <= dims; first += n) run.template operator()<n>(first);
  if constexpr (n > 1) for_channels<n / 2>(dims, run, first);
}

// n channels of the output.
template <typename V>
struct SumPixels {
  const Samples<V>& samples;
  const V* value;
  V* output;

  template <int n>
  MSDA_INLINE void operator()(int64_t channel) const {
    using T = Math<V>;
    constexpr int width = n < kLanes<T> ? n : kLanes<T>;
    constexpr int count = n / width;
    constexpr V padding[n] = {};
    Vector<T, width> sums[2][count] = {};  // two, as an addition waits for the one before
    for (int64_t s = 0; s < samples.size(); ++s) {
      repeat<4>([&](int corner) MSDA_INLINE_LAMBDA {
        const int64_t offset = samples.offset(s, corner);
        const V* pixel = offset < 0 ? padding : value + offset + channel;
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
template <typename V>
struct SpreadGradient {
  const Samples<V>& samples;
  const V* value;
  const V* grad_output;
  Math<V>* grad_value;

  template <int n>
  MSDA_INLINE void operator()(int64_t channel) const {
    using T = Math<V>;
    constexpr int width = n < kLanes<T> ? n : kLanes<T>;
    constexpr int count = n / width;
    constexpr V padding[n] = {};
    T ignored[n] = {};
    Vector<T, width> grads[count];
    repeat<count>([&](int i) MSDA_INLINE_LAMBDA {
      grads[i] = load<width>(grad_output + channel + i * width);
    });
    for (int64_t s = 0; s < samples.size(); ++s) {
      Vector<T, width> products[4] = {};
      repeat<4>([&](int corner) MSDA_INLINE_LAMBDA {
        const int64_t offset = samples.offset(s, corner);
        const V* pixel = offset < 0 ? padding : value + offset + channel;
        T* grad_pixel = offset < 0 ? ignored : grad_value + offset + channel;
        const T weight = samples.weight(s, corner);
        repeat<count>([&](int i) MSDA_INLINE_LAMBDA {
          products[corner] += grads[i] * load<width>(pixel + i * width);
          T* sums = grad_pixel + i * width;
          store<width>(sums, load<width>(sums) + weight * grads[i]);
        });
      });
      add_up<T, width>(samples.dots(s), products);
    }
  }
};

template <typename V>
void forward(const Inputs<V>& inputs, V* output, int64_t begin, int64_t end) {
  const Shape& shape = inputs.shape;
  Samples<V> samples(inputs);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t pair = i / shape.num_queries;
    const int64_t image = pair / shape.num_heads, head = pair - image * shape.num_heads;
    const int64_t place = i - pair * shape.num_queries, first = image * shape.num_queries;
    if (place + kAhead < shape.num_queries) {
      samples.prefetch_inputs(first + inputs.order[place + kAhead], head);
    }
    const int64_t query = first + inputs.order[place];
    samples.read(query, head);
    const V* value = inputs.value + image * inputs.strides.batch + head * inputs.strides.head;
    V* out = output + (query * shape.num_heads + head) * shape.head_dims;
    for_channels<kChannels<Math<V>>>(shape.head_dims, SumPixels<V>{samples, value, out});
  }
}

template <typename V>
void backward(const Inputs<V>& inputs, const Gradients<V>& gradients, int64_t begin, int64_t end) {
  const Shape& shape = inputs.shape;
  Samples<V> samples(inputs);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t image = i / shape.num_heads, head = i % shape.num_heads;
    const int64_t place = image * inputs.strides.batch + head * inputs.strides.head;
    const int64_t first = image * shape.num_queries;
    for (int64_t q = 0; q < shape.num_queries; ++q) {
      if (q + kAhead < shape.num_queries) {
        const int64_t later = first + inputs.order[q + kAhead];
        samples.prefetch_inputs(later, head);
        samples.prefetch_gradients(gradients, later, head);
      }
      const int64_t query = first + inputs.order[q];
      samples.read(query, head);
      for (int64_t s = 0; s < 4 * samples.size(); ++s) samples.dots(0)[s] = 0;
      const V* grad = gradients.output + (query * shape.num_heads + head) * shape.head_dims;
      for_channels<kChannels<Math<V>>>(
          shape.head_dims,
          SpreadGradient<V>{samples, inputs.value + place, grad, gradients.value + place});
      samples.write(gradients, query, head);
    }
  }
}

#define MSDA_INSTANTIATE(V)                                              \
  template void forward<V>(const Inputs<V>&, V*, int64_t, int64_t);      \
  template void backward<V>(const Inputs<V>&, const Gradients<V>&, int64_t, int64_t);

MSDA_INSTANTIATE(float)
MSDA_INSTANTIATE(double)
MSDA_INSTANTIATE(Float16)
MSDA_INSTANTIATE(BFloat16)

}  // namespace ms_deform_attn::cpu::MSDA_INSTRUCTION_SET
