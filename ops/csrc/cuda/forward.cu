// The output. No torch header, so that nvcc alone compiles the file.
#include "group.h"

namespace ms_deform_attn::cuda {

// The most blocks at once for which no registers are spilt.
constexpr int kForwardBlocks = 4;

template <typename T, int N>
__global__ void __launch_bounds__(kThreads, kForwardBlocks)
    forward_kernel(const __grid_constant__ Inputs inputs, const __grid_constant__ Plan plan,
                   T* output) {
  using A = Wide<T>;
  __shared__ SharedSamples<A> shared;
  const Shape& shape = inputs.shape;
  const Group group = find_group(inputs, plan);
  const Softmax<A> softmax = softmax_of<T>(inputs, group);
  const int num_samples = int(shape.num_levels * shape.num_points);
  const int head_dims = int(shape.head_dims);
  const T* value = static_cast<const T*>(inputs.value) + group.image * plan.image_stride +
                   int64_t(group.head) * head_dims;

  for (int first = 0; first < head_dims; first += group.lanes * N) {
    const int d = first + group.lane * N;
    const T* channels = d < head_dims ? value + d : value;
    Vector<A, N> sum{};
    for (int begin = 0; begin < num_samples; begin += group.lanes * kSamplesPerLane) {
      __syncwarp();
#pragma unroll
      for (int k = 0; k < kSamplesPerLane; ++k) {
        const int s = group.lane + k * group.lanes, slot = SharedSamples<A>::slot(group, s);
        const WeightedSample<A> weighted = weighted_sample<T>(inputs, group, softmax, begin + s);
        const A lower = weighted.weight * weighted.sample.down, upper = weighted.weight - lower;
        const A right = weighted.sample.right;
        shared.numbers[slot] = {
            {upper - upper * right, upper * right, lower - lower * right, lower * right}};
        const int32_t* pixels = weighted.sample.pixels;
        shared.pixels[slot] = {{pixels[0], pixels[1], pixels[2], pixels[3]}};
      }
      __syncwarp();
      const int left = num_samples - begin, size = group.lanes * kSamplesPerLane;
      const int count = left < size ? left : size;
#pragma unroll 2
      for (int s = 0; s < count; ++s) {
        const int slot = SharedSamples<A>::slot(group, s);
        const Vector<int32_t, 4> pixels = shared.pixels[slot];
        const Vector<A, 4> corner_weights = shared.numbers[slot];
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          Vector<A, N> pixel{};
          if (pixels.at[corner] != kOutside) {
            pixel = load<N>(at_pixel(channels, pixels.at[corner], plan));
          }
#pragma unroll
          for (int i = 0; i < N; ++i) sum.at[i] += corner_weights.at[corner] * pixel.at[i];
        }
      }
    }
    if (group.active && d < head_dims) store<N>(output + group.row * head_dims + d, sum);
  }
}

template <typename T, int N>
std::string launch_forward(const Inputs& inputs, void* output, void* stream) {
  const Plan plan = plan_for(inputs, N);
  return launch(forward_kernel<T, N>, inputs.shape.bs * inputs.shape.num_heads * plan.tiles, stream,
                inputs, plan, static_cast<T*>(output));
}

template <typename T>
std::string launch_forward(const Inputs& inputs, void* output, void* stream) {
  constexpr int kVector = kVectorBytes / sizeof(T);
  return fits_vectors<T>(inputs.shape, {inputs.value, output})
             ? launch_forward<T, kVector>(inputs, output, stream)
             : launch_forward<T, 1>(inputs, output, stream);
}

std::string launch_forward(Type type, const Inputs& inputs, void* output, void* stream) {
  switch (type) {
    case Type::kFloat:
      return launch_forward<float>(inputs, output, stream);
    case Type::kDouble:
      return launch_forward<double, 1>(inputs, output, stream);
    case Type::kHalf:
      return launch_forward<__half>(inputs, output, stream);
    case Type::kBFloat16:
      return launch_forward<__nv_bfloat16>(inputs, output, stream);
  }
  return "unknown type";
}

}  // namespace ms_deform_attn::cuda
