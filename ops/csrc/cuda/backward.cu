// The gradients. No torch header, so that nvcc alone compiles the file.
#include "accumulate.h"
#include "group.h"

namespace ms_deform_attn::cuda {

// How the output changes with the weight and with the pixel coordinates of a sample.
template <typename A>
struct Slopes {
  A weight;
  A x;
  A y;
};

// Lanes have products with the four pixels for their channels; all get the slopes for all channels.
template <typename A>
__device__ __forceinline__ Slopes<A> slopes_of(const Group& group, const A (&products)[4], A right,
                                               A down) {
  const A top = products[1] - products[0], bottom = products[3] - products[2];
  const A upper = products[0] + right * top, lower = products[2] + right * bottom;
  Slopes<A> slopes{upper + down * (lower - upper), top + down * (bottom - top), lower - upper};
  sum_over(group, slopes.weight, slopes.x, slopes.y);
  return slopes;
}

// Gradients of a level's reference, summed over points; the heads are summed afterwards.
template <typename A>
struct ReferenceSums {
  A sums[4] = {0, 0, 0, 0};

  template <typename T>
  __device__ __forceinline__ void add(const Inputs& inputs, const Group& group, int s, A along_x,
                                      A along_y, A* results) {
    const int num_points = int(inputs.shape.num_points);
    const int num_levels = int(inputs.shape.num_levels), l = s / num_points;
    const int64_t i = group.row * num_levels * num_points + s;
    sums[0] += along_x;
    sums[1] += along_y;
    if (inputs.reference_dims == 4) {
      const A part = A(0.5) / A(num_points);
      sums[2] += along_x * part * read<T>(inputs.positions, 2 * i);
      sums[3] += along_y * part * read<T>(inputs.positions, 2 * i + 1);
    }
    if (s - l * num_points == num_points - 1) {
      A* result = results + (group.row * num_levels + l) * inputs.reference_dims;
      for (int k = 0; k < 2; ++k) result[k] = sums[k];
      if (inputs.reference_dims == 4) {
        for (int k = 2; k < 4; ++k) result[k] = sums[k];
      }
      for (int k = 0; k < 4; ++k) sums[k] = 0;
    }
  }
};

// The most blocks at once for which no registers are spilt.
constexpr int kBackwardBlocks = 2;

template <typename T, int N, typename Sums>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks)
    backward_kernel(const __grid_constant__ Inputs inputs, const __grid_constant__ Plan plan,
                    const __grid_constant__ Gradients gradients,
                    const __grid_constant__ Workspace workspace) {
  using A = Wide<T>;
  __shared__ SharedSamples<A> shared;
  const Shape& shape = inputs.shape;
  const Group group = find_group(inputs, plan);
  const Softmax<A> softmax = softmax_of<T>(inputs, group);
  const Sums value_sums(inputs, workspace);
  const bool fused = inputs.reference_dims != 0;
  const int num_samples = int(shape.num_levels * shape.num_points);
  const int head_dims = int(shape.head_dims);
  const int64_t value_begin = group.image * plan.image_stride + int64_t(group.head) * head_dims;
  const T* value = static_cast<const T*>(inputs.value) + value_begin;
  auto* sums = value_sums.sums + value_begin;
  const T* output = static_cast<const T*>(gradients.output) + group.row * head_dims;
  A* raw_weights = static_cast<A*>(workspace.weights);

  const int own = group.lane * N;
  Vector<A, N> first_grad{};
  if (group.active && own < head_dims) first_grad = load<N>(output + own);

  ReferenceSums<A> reference_sums;
  A expected = 0;  // of the slopes under the softmax
  const int size = group.lanes * kSamplesPerLane;
  for (int begin = 0; begin < num_samples; begin += size) {
    __syncwarp();
#pragma unroll
    for (int k = 0; k < kSamplesPerLane; ++k) {
      const int s = group.lane + k * group.lanes, slot = SharedSamples<A>::slot(group, s);
      const WeightedSample<A> weighted = weighted_sample<T>(inputs, group, softmax, begin + s);
      const int32_t* pixels = weighted.sample.pixels;
      shared.pixels[slot] = {{pixels[0], pixels[1], pixels[2], pixels[3]}};
      shared.numbers[slot] = {{weighted.sample.right, weighted.sample.down, weighted.weight, 0}};
    }
    __syncwarp();

    Slopes<A> own_slopes[kSamplesPerLane] = {};
    const int count = num_samples - begin < size ? num_samples - begin : size;
    for (int s = 0; s < count; ++s) {
      const int slot = SharedSamples<A>::slot(group, s);
      const Vector<int32_t, 4> pixels = shared.pixels[slot];
      const Vector<A, 4> numbers = shared.numbers[slot];
      const A right = numbers.at[0], down = numbers.at[1], weight = numbers.at[2];
      const A lower = weight * down, upper = weight - lower;
      const A corner_weights[4] = {upper - upper * right, upper * right, lower - lower * right,
                                   lower * right};

      A products[4] = {0, 0, 0, 0};
      for (int d = own; d < head_dims; d += group.lanes * N) {
        Vector<A, N> grad = first_grad;
        if (d != own && group.active) grad = load<N>(output + d);
        Vector<A, N> pixel[4] = {};
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          if (pixels.at[corner] != kOutside) {
            pixel[corner] = load<N>(at_pixel(value + d, pixels.at[corner], plan));
          }
        }
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          Vector<A, N> amount;
#pragma unroll
          for (int i = 0; i < N; ++i) {
            products[corner] += grad.at[i] * pixel[corner].at[i];
            amount.at[i] = grad.at[i] * corner_weights[corner];
          }
          if (pixels.at[corner] != kOutside) {
            value_sums.add(at_pixel(sums + d, pixels.at[corner], plan), amount);
          }
        }
      }

      const Slopes<A> slopes = slopes_of(group, products, right, down);
#pragma unroll
      for (int k = 0; k < kSamplesPerLane; ++k) {
        if (s == group.lane + k * group.lanes) own_slopes[k] = slopes;
      }
      expected += weight * slopes.weight;
      if (fused && group.active && group.lane == 0) {
        const Level& level = inputs.levels.level[(begin + s) / int(shape.num_points)];
        reference_sums.template add<T>(inputs, group, begin + s, weight * slopes.x * A(level.width),
                                       weight * slopes.y * A(level.height),
                                       static_cast<A*>(workspace.references));
      }
    }

#pragma unroll
    for (int k = 0; k < kSamplesPerLane; ++k) {
      const int s = group.lane + k * group.lanes;
      if (!group.active || s >= count) continue;
      const int l = (begin + s) / int(shape.num_points);
      const int64_t i = group.row * num_samples + begin + s;
      const Level& level = inputs.levels.level[l];
      const OffsetTransform<A> transform = offset_transform<T>(inputs, group, l);
      const A weight = shared.numbers[SharedSamples<A>::slot(group, s)].at[2];
      const Slopes<A> slopes = own_slopes[k];
      write<T>(gradients.positions, 2 * i, weight * slopes.x * A(level.width) * transform.step[0]);
      write<T>(gradients.positions, 2 * i + 1,
               weight * slopes.y * A(level.height) * transform.step[1]);
      if (fused) {
        raw_weights[i] = slopes.weight;
      } else {
        write<T>(gradients.weights, i, slopes.weight);
      }
    }
  }

  // The softmax: each lane reads what it wrote itself.
  if (!fused || !group.active) return;
  for (int s = group.lane; s < num_samples; s += group.lanes) {
    const int64_t i = group.row * num_samples + s;
    write<T>(gradients.weights, i, weight_of<T>(inputs, softmax, i) * (raw_weights[i] - expected));
  }
}

// The largest absolute value of all numbers.
template <typename T>
__global__ void bound_kernel(const Numbers numbers, int64_t count, Wide<T>* bound) {
  using A = Wide<T>;
  A largest = 0;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kThreads) {
    const A size = fabs(read<T>(numbers, i));
    if (!(size <= largest)) largest = size;
    if (isnan(size)) break;
  }
  raise_bound(bound, largest);
}

// The gradient of the value from sums that are not of its type.
template <typename T, typename Sums>
__global__ void value_kernel(const __grid_constant__ Inputs inputs,
                             const __grid_constant__ Workspace workspace, T* results,
                             int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) results[i] = narrow<T>(Sums(inputs, workspace).sum(i));
}

// The gradient of the references: the sum over heads.
template <typename T>
__global__ void references_kernel(const __grid_constant__ Inputs inputs, const Wide<T>* sums,
                                  Results results, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t size = inputs.shape.num_levels * inputs.reference_dims;
  Wide<T> sum = 0;
  for (int64_t head = 0; head < inputs.shape.num_heads; ++head) {
    sum += sums[(i / size * inputs.shape.num_heads + head) * size + i % size];
  }
  write<T>(results, i, sum);
}

template <typename T>
std::string launch_bound(const Numbers& numbers, int64_t count, void* bound, void* stream) {
  constexpr int64_t kEnough = 1024;
  const int64_t blocks = divide_up(count, kThreads);
  return launch(bound_kernel<T>, blocks < kEnough ? blocks : kEnough, stream, numbers, count,
                static_cast<Wide<T>*>(bound));
}

template <typename T, int N, typename Sums>
std::string launch_main(const Inputs& inputs, const Gradients& gradients,
                        const Workspace& workspace, void* stream) {
  const Plan plan = plan_for(inputs, N);
  return launch(backward_kernel<T, N, Sums>, inputs.shape.bs * inputs.shape.num_heads * plan.tiles,
                stream, inputs, plan, gradients, workspace);
}

template <typename T>
std::string launch_all(const Inputs& inputs, const Gradients& gradients, const Workspace& workspace,
                       bool deterministic, void* stream) {
  using A = Wide<T>;
  const Shape& shape = inputs.shape;
  const int64_t num_rows = shape.bs * shape.num_queries * shape.num_heads;
  std::string problem;
  const auto then = [&](auto launch_next) {
    if (problem.empty()) problem = launch_next();
  };

  if (deterministic) {
    A* bounds = static_cast<A*>(workspace.bounds);
    const Numbers output{gradients.output, sizeof(T) == 2};
    then([&] { return launch_bound<T>(output, num_rows * shape.head_dims, bounds, stream); });
    if (inputs.reference_dims == 0) {
      const int64_t num_weights = num_rows * shape.num_levels * shape.num_points;
      then([&] { return launch_bound<T>(inputs.weights, num_weights, bounds + 1, stream); });
    }
    then([&] {
      return launch_main<T, 1, IntegerSums<A>>(inputs, gradients, workspace, stream);
    });
  } else {
    constexpr int kVector = std::is_same_v<T, double> ? 1 : kVectorBytes / sizeof(T);
    const bool fits = fits_vectors<T>(shape, {inputs.value, gradients.output, workspace.sums});
    then([&] {
      return fits ? launch_main<T, kVector, FloatingSums<A>>(inputs, gradients, workspace, stream)
                  : launch_main<T, 1, FloatingSums<A>>(inputs, gradients, workspace, stream);
    });
  }

  if (workspace.sums != gradients.value) {
    const int64_t count = shape.bs * shape.num_value * shape.num_heads * shape.head_dims;
    const auto kernel =
        deterministic ? value_kernel<T, IntegerSums<A>> : value_kernel<T, FloatingSums<A>>;
    then([&] {
      return launch(kernel, divide_up(count, kThreads), stream, inputs, workspace,
                    static_cast<T*>(gradients.value), count);
    });
  }
  if (inputs.reference_dims != 0) {
    const int64_t count =
        shape.bs * shape.num_queries * shape.num_levels * inputs.reference_dims;
    then([&] {
      return launch(references_kernel<T>, divide_up(count, kThreads), stream, inputs,
                    static_cast<const A*>(workspace.references), gradients.references, count);
    });
  }
  return problem;
}

std::string launch_backward(Type type, const Inputs& inputs, const Gradients& gradients,
                            const Workspace& workspace, bool deterministic, void* stream) {
  switch (type) {
    case Type::kFloat:
      return launch_all<float>(inputs, gradients, workspace, deterministic, stream);
    case Type::kDouble:
      return launch_all<double>(inputs, gradients, workspace, deterministic, stream);
    case Type::kHalf:
      return launch_all<__half>(inputs, gradients, workspace, deterministic, stream);
    case Type::kBFloat16:
      return launch_all<__nv_bfloat16>(inputs, gradients, workspace, deterministic, stream);
  }
  return "unknown type";
}

}  // namespace ms_deform_attn::cuda
