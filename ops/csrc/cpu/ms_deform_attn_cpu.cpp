// The ops for the CPU: memory, threads, and the choice of the instruction set.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "../checks.h"
#include "ms_deform_attn_kernel.h"

namespace ms_deform_attn::cpu {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Samples of one head lie near each other. Where they are many, a copy in which the pixels of a
// head are neighbours in memory pays for itself.
bool worth_packing(const Shape& shape) {
  return shape.num_queries * shape.num_levels * shape.num_points >= shape.num_value;
}

// (bs, num_value, num_heads, head_dims), in memory head by head if packed.
Tensor arrange(const Tensor& value, bool packed) {
  return packed ? torch::stable::transpose(
                      torch::stable::contiguous(torch::stable::transpose(value, 1, 2)), 1, 2)
                : torch::stable::contiguous(value);
}

template <typename T>
Inputs<T> inputs_of(const Shape& shape, const std::vector<Level>& levels, const Tensor& value,
                    const Tensor& locations, const Tensor& weights) {
  return {shape,
          levels.data(),
          value.const_data_ptr<T>(),
          {value.stride(0), value.stride(1), value.stride(2)},
          locations.const_data_ptr<T>(),
          weights.const_data_ptr<T>()};
}

Tensor forward(const Tensor& value, const Tensor& spatial_shapes, const Tensor& level_start_index,
               const Tensor& sampling_locations, const Tensor& attention_weights) {
  const Shape shape = checked_shape(value, sampling_locations, attention_weights);
  const auto levels = checked_levels(spatial_shapes, level_start_index, shape);
  const Tensor arranged = arrange(value, worth_packing(shape));
  const Tensor locations = torch::stable::contiguous(sampling_locations);
  const Tensor weights = torch::stable::contiguous(attention_weights);
  const Tensor output = torch::stable::new_empty(
      value, {shape.bs, shape.num_queries, shape.num_heads * shape.head_dims});

  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const auto inputs = inputs_of<T>(shape, levels, arranged, locations, weights);
    T* out = output.mutable_data_ptr<T>();
    constexpr int64_t kGrain = 64;
    torch::stable::parallel_for(
        0, shape.bs * shape.num_heads * shape.num_queries, kGrain,
        [&](int64_t begin, int64_t end) { forward_kernel<T>(inputs, out, begin, end); });
  };
  value.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return output;
}

std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& grad_output, const Tensor& value, const Tensor& spatial_shapes,
    const Tensor& level_start_index, const Tensor& sampling_locations,
    const Tensor& attention_weights) {
  const Shape shape = checked_shape(value, sampling_locations, attention_weights);
  const auto levels = checked_levels(spatial_shapes, level_start_index, shape);
  check_grad_output(grad_output, value, shape);
  const bool packed = worth_packing(shape);
  const Tensor arranged = arrange(value, packed);
  const Tensor locations = torch::stable::contiguous(sampling_locations);
  const Tensor weights = torch::stable::contiguous(attention_weights);
  const Tensor grad = torch::stable::contiguous(grad_output);
  const Tensor grad_locations = torch::stable::new_empty(locations, locations.sizes());
  const Tensor grad_weights = torch::stable::new_empty(weights, weights.sizes());
  Tensor grad_value =
      packed ? torch::stable::transpose(
                   torch::stable::new_zeros(value, {shape.bs, shape.num_heads, shape.num_value,
                                                    shape.head_dims}),
                   1, 2)
             : torch::stable::new_zeros(value, value.sizes());

  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const auto inputs = inputs_of<T>(shape, levels, arranged, locations, weights);
    const Gradients<T> gradients{grad.const_data_ptr<T>(), grad_value.mutable_data_ptr<T>(),
                                 grad_locations.mutable_data_ptr<T>(),
                                 grad_weights.mutable_data_ptr<T>()};
    // One thread owns all of an image's head: no atomics, and the same sums in the same order.
    torch::stable::parallel_for(
        0, shape.bs * shape.num_heads, 1,
        [&](int64_t begin, int64_t end) { backward_kernel<T>(inputs, gradients, begin, end); });
  };
  value.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return {torch::stable::contiguous(grad_value), grad_locations, grad_weights};
}

}  // namespace ms_deform_attn::cpu

STABLE_TORCH_LIBRARY_IMPL(ms_deform_attn, CPU, m) {
  m.impl("forward", TORCH_BOX(&ms_deform_attn::cpu::forward));
  m.impl("backward", TORCH_BOX(&ms_deform_attn::cpu::backward));
}
