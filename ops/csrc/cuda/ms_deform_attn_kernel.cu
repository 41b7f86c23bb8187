// The CUDA kernels. No torch header, so that nvcc alone compiles the file.
#include <cuda_runtime.h>

#include "../sample.h"
#include "ms_deform_attn_kernel.h"

namespace ms_deform_attn::cuda {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

template <typename T>
__device__ T at(const T* channel, int32_t pixel, int64_t pixel_stride) {
  return pixel == kOutside ? T(0) : channel[pixel * pixel_stride];
}

template <typename T>
__device__ void add_at(T* channel, int32_t pixel, int64_t pixel_stride, T amount) {
  if (pixel != kOutside) atomicAdd(channel + pixel * pixel_stride, amount);
}

template <typename T>
__device__ T sum_over_warp(T number) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    number += __shfl_down_sync(0xffffffffu, number, step);
  }
  return number;
}

// A thread computes one channel of the output.
template <typename T>
__global__ void __launch_bounds__(kThreads) forward_kernel(const Inputs<T> inputs, T* output) {
  const Shape& shape = inputs.shape;
  const int64_t pixel_stride = shape.num_heads * shape.head_dims;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.bs * shape.num_queries * pixel_stride) return;

  const int64_t image = i / pixel_stride / shape.num_queries;
  const T* channel =
      inputs.value + image * shape.num_value * pixel_stride + i % pixel_stride;
  int64_t s = i / shape.head_dims * shape.num_levels * shape.num_points;
  T sum = 0;
  for (int64_t l = 0; l < shape.num_levels; ++l) {
    for (int64_t p = 0; p < shape.num_points; ++p, ++s) {
      const auto sample = locate(inputs.levels.level[l], inputs.locations[2 * s],
                                 inputs.locations[2 * s + 1]);
      const T v0 = at(channel, sample.pixels[0], pixel_stride);
      const T v1 = at(channel, sample.pixels[1], pixel_stride);
      const T v2 = at(channel, sample.pixels[2], pixel_stride);
      const T v3 = at(channel, sample.pixels[3], pixel_stride);
      const T top = v0 + sample.right * (v1 - v0);
      const T bottom = v2 + sample.right * (v3 - v2);
      sum += inputs.weights[s] * (top + sample.down * (bottom - top));
    }
  }
  output[i] = sum;
}

// A warp computes the gradients of one head of one query; its lanes share the channels.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const Inputs<T> inputs, const Gradients<T> gradients) {
  const Shape& shape = inputs.shape;
  const int64_t pixel_stride = shape.num_heads * shape.head_dims;
  const int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (i >= shape.bs * shape.num_queries * shape.num_heads) return;

  const int64_t image = i / shape.num_heads / shape.num_queries;
  const int64_t head_offset =
      image * shape.num_value * pixel_stride + i % shape.num_heads * shape.head_dims;
  const T* value = inputs.value + head_offset;
  T* grad_value = gradients.value + head_offset;
  const T* grad_output = gradients.output + i * shape.head_dims;
  int64_t s = i * shape.num_levels * shape.num_points;

  for (int64_t l = 0; l < shape.num_levels; ++l) {
    const Level& level = inputs.levels.level[l];
    for (int64_t p = 0; p < shape.num_points; ++p, ++s) {
      const T weight = inputs.weights[s];
      const auto sample = locate(level, inputs.locations[2 * s], inputs.locations[2 * s + 1]);
      T along_weight = 0, along_x = 0, along_y = 0;
      for (int64_t d = lane; d < shape.head_dims; d += kWarp) {
        const T grad = grad_output[d];
        const T v0 = at(value + d, sample.pixels[0], pixel_stride);
        const T v1 = at(value + d, sample.pixels[1], pixel_stride);
        const T v2 = at(value + d, sample.pixels[2], pixel_stride);
        const T v3 = at(value + d, sample.pixels[3], pixel_stride);
        const T top = v0 + sample.right * (v1 - v0);
        const T bottom = v2 + sample.right * (v3 - v2);
        along_weight += grad * (top + sample.down * (bottom - top));
        along_x += grad * ((v1 - v0) + sample.down * ((v3 - v2) - (v1 - v0)));
        along_y += grad * (bottom - top);

        const T lower = grad * weight * sample.down, upper = grad * weight - lower;
        add_at(grad_value + d, sample.pixels[0], pixel_stride, upper - upper * sample.right);
        add_at(grad_value + d, sample.pixels[1], pixel_stride, upper * sample.right);
        add_at(grad_value + d, sample.pixels[2], pixel_stride, lower - lower * sample.right);
        add_at(grad_value + d, sample.pixels[3], pixel_stride, lower * sample.right);
      }
      along_weight = sum_over_warp(along_weight);
      along_x = sum_over_warp(along_x);
      along_y = sum_over_warp(along_y);
      if (lane == 0) {
        gradients.weights[s] = along_weight;
        gradients.locations[2 * s] = weight * T(level.width) * along_x;
        gradients.locations[2 * s + 1] = weight * T(level.height) * along_y;
      }
    }
  }
}

unsigned blocks_for(int64_t threads) { return unsigned((threads + kThreads - 1) / kThreads); }

const char* launch_problem() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <typename T>
const char* launch_forward(const Inputs<T>& inputs, T* output, void* stream) {
  const Shape& shape = inputs.shape;
  const int64_t threads = shape.bs * shape.num_queries * shape.num_heads * shape.head_dims;
  if (threads == 0) return nullptr;
  forward_kernel<T>
      <<<blocks_for(threads), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(inputs, output);
  return launch_problem();
}

template <typename T>
const char* launch_backward(const Inputs<T>& inputs, const Gradients<T>& gradients, void* stream) {
  const Shape& shape = inputs.shape;
  const int64_t threads = shape.bs * shape.num_queries * shape.num_heads * kWarp;
  if (threads == 0) return nullptr;
  backward_kernel<T>
      <<<blocks_for(threads), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(inputs, gradients);
  return launch_problem();
}

template const char* launch_forward(const Inputs<float>&, float*, void*);
template const char* launch_forward(const Inputs<double>&, double*, void*);
template const char* launch_backward(const Inputs<float>&, const Gradients<float>&, void*);
template const char* launch_backward(const Inputs<double>&, const Gradients<double>&, void*);

}  // namespace ms_deform_attn::cuda
