// The ops for the CPU: memory, threads, and the choice of the instruction set.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "../checks.h"
#include "kernels.h"
#include "query_order.h"

namespace ms_deform_attn::cpu {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// What an op is given beside the value and the levels; the fused ops alone have reference points.
struct Sampling {
  const Tensor& coordinates;
  const Tensor& weights;
  const Tensor* reference_points;
};

// Samples of one head lie near each other. Where they are many, it pays to copy the head's pixels
// next to each other first, once in each thread that works on the head.
bool worth_packing(const Shape& shape, int64_t threads) {
  const int64_t heads = shape.bs * shape.num_heads;
  const int64_t samples = shape.num_queries * shape.num_levels * shape.num_points;
  return samples * heads >= shape.num_value * std::max(heads, threads);
}

Tensor contiguous_as(const Tensor& tensor, ScalarType dtype) {
  if (tensor.scalar_type() == dtype) return torch::stable::contiguous(tensor);
  return torch::stable::to(tensor, dtype, std::nullopt, std::nullopt, std::nullopt, false, false,
                           MemoryFormat::Contiguous);
}

ScalarType math_dtype(const Tensor& value) {
  return value.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Calls run with a number of the type in which the value lies in memory.
template <typename Run>
void with_type_of(const Tensor& value, const Run& run) {
  switch (value.scalar_type()) {
    case ScalarType::Double: return run(double{});
    case ScalarType::Half: return run(Float16{});
    case ScalarType::BFloat16: return run(BFloat16{});
    default: return run(float{});
  }
}

template <typename T>
T* memory_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <typename T>
const T* const_memory_of(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

// The tensors of a call as the kernels take them. Keeps what it had to copy.
class Call {
 public:
  Call(const Shape& shape, bool packed, std::vector<Level> levels, const Tensor& value,
       const Sampling& sampling)
      : shape_(shape),
        packed_(packed),
        levels_(std::move(levels)),
        order_(packed ? query_order(shape, levels_) : std::vector<int64_t>()),
        value_(torch::stable::contiguous(value)),
        coordinates_(contiguous_as(sampling.coordinates, math_dtype(value))),
        weights_(contiguous_as(sampling.weights, math_dtype(value))),
        fused_(sampling.reference_points != nullptr),
        reference_points_(
            fused_ ? contiguous_as(*sampling.reference_points, math_dtype(value)) : weights_) {}

  template <typename V>
  Inputs<V> inputs() const {
    return {shape_,
            levels_.data(),
            order_.data(),
            packed_,
            const_memory_of<V>(value_),
            const_memory_of<Math<V>>(coordinates_),
            const_memory_of<Math<V>>(weights_),
            fused_ ? const_memory_of<Math<V>>(reference_points_) : nullptr,
            reference_points_.size(3)};
  }

 private:
  const Shape shape_;
  const bool packed_;
  const std::vector<Level> levels_;
  const std::vector<int64_t> order_;
  const Tensor value_, coordinates_, weights_;
  const bool fused_;
  const Tensor reference_points_;
};

Tensor run_forward(const Shape& shape, std::vector<Level> levels, const Tensor& value,
                   const Sampling& sampling) {
  const bool packed = worth_packing(shape, torch::stable::get_num_threads());
  const Call call(shape, packed, std::move(levels), value, sampling);
  const Tensor output = torch::stable::new_empty(
      value, {shape.bs, shape.num_queries, shape.num_heads * shape.head_dims});
  with_type_of(value, [&](auto zero) {
    using V = decltype(zero);
    const Inputs<V> inputs = call.inputs<V>();
    V* out = memory_of<V>(output);
    constexpr int64_t kGrain = 64;
    torch::stable::parallel_for(
        0, shape.bs * shape.num_heads * shape.num_queries, kGrain,
        [&](int64_t begin, int64_t end) { forward<V>(inputs, out, begin, end); });
  });
  return output;
}

// The gradients of value, coordinates, weights and, for each head apart, reference points.
std::tuple<Tensor, Tensor, Tensor, Tensor> run_backward(const Tensor& grad_output,
                                                        const Shape& shape,
                                                        std::vector<Level> levels,
                                                        const Tensor& value,
                                                        const Sampling& sampling) {
  check_grad_output(grad_output, value, shape);
  // The order of the sums must not depend on the number of threads.
  const bool packed = worth_packing(shape, 1);
  const Call call(shape, packed, std::move(levels), value, sampling);
  const ScalarType dtype = math_dtype(value);
  const Tensor grad = torch::stable::contiguous(grad_output);
  const Tensor grad_value = packed ? torch::stable::new_empty(value, value.sizes())
                                    : torch::stable::new_zeros(value, value.sizes(), dtype);
  const Tensor grad_coordinates =
      torch::stable::new_empty(value, sampling.coordinates.sizes(), dtype);
  const Tensor grad_weights = torch::stable::new_empty(value, sampling.weights.sizes(), dtype);
  const int64_t dims = sampling.reference_points ? sampling.reference_points->size(3) : 0;
  const Tensor grad_points = torch::stable::new_empty(
      value, {shape.bs, shape.num_queries, shape.num_heads, shape.num_levels, dims}, dtype);

  with_type_of(value, [&](auto zero) {
    using V = decltype(zero);
    const Inputs<V> inputs = call.inputs<V>();
    const Gradients<V> gradients{const_memory_of<V>(grad),
                                 packed ? memory_of<V>(grad_value) : nullptr,
                                 packed ? nullptr : memory_of<Math<V>>(grad_value),
                                 memory_of<Math<V>>(grad_coordinates),
                                 memory_of<Math<V>>(grad_weights),
                                 memory_of<Math<V>>(grad_points)};
    // One thread owns all of an image's head: no atomics, and the same sums in the same order.
    torch::stable::parallel_for(
        0, shape.bs * shape.num_heads, 1,
        [&](int64_t begin, int64_t end) { backward<V>(inputs, gradients, begin, end); });
  });
  const ScalarType given = sampling.coordinates.scalar_type();
  return {contiguous_as(grad_value, value.scalar_type()), contiguous_as(grad_coordinates, given),
          contiguous_as(grad_weights, given), grad_points};
}

Tensor forward_op(const Tensor& value, const Tensor& spatial_shapes,
                  const Tensor& level_start_index, const Tensor& sampling_locations,
                  const Tensor& attention_weights) {
  const Shape shape = checked_shape(value, sampling_locations, attention_weights);
  return run_forward(shape, checked_levels(spatial_shapes, level_start_index, shape), value,
                     {sampling_locations, attention_weights, nullptr});
}

std::tuple<Tensor, Tensor, Tensor> backward_op(
    const Tensor& grad_output, const Tensor& value, const Tensor& spatial_shapes,
    const Tensor& level_start_index, const Tensor& sampling_locations,
    const Tensor& attention_weights) {
  const Shape shape = checked_shape(value, sampling_locations, attention_weights);
  const auto [grad_value, grad_locations, grad_weights, none] =
      run_backward(grad_output, shape, checked_levels(spatial_shapes, level_start_index, shape),
                   value, {sampling_locations, attention_weights, nullptr});
  return {grad_value, grad_locations, grad_weights};
}

Tensor fused_forward_op(const Tensor& value, const Tensor& spatial_shapes,
                        const Tensor& level_start_index, const Tensor& reference_points,
                        const Tensor& sampling_offsets, const Tensor& attention_logits) {
  const Shape shape =
      checked_fused_shape(value, reference_points, sampling_offsets, attention_logits);
  return run_forward(shape, checked_levels(spatial_shapes, level_start_index, shape), value,
                     {sampling_offsets, attention_logits, &reference_points});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fused_backward_op(
    const Tensor& grad_output, const Tensor& value, const Tensor& spatial_shapes,
    const Tensor& level_start_index, const Tensor& reference_points,
    const Tensor& sampling_offsets, const Tensor& attention_logits) {
  const Shape shape =
      checked_fused_shape(value, reference_points, sampling_offsets, attention_logits);
  const auto [grad_value, grad_offsets, grad_logits, grad_points] =
      run_backward(grad_output, shape, checked_levels(spatial_shapes, level_start_index, shape),
                   value, {sampling_offsets, attention_logits, &reference_points});
  constexpr int64_t kHeads[] = {2};
  return {grad_value,
          contiguous_as(torch::stable::sum(grad_points, kHeads), reference_points.scalar_type()),
          grad_offsets, grad_logits};
}

}  // namespace ms_deform_attn::cpu

STABLE_TORCH_LIBRARY_IMPL(ms_deform_attn, CPU, m) {
  m.impl("forward", TORCH_BOX(&ms_deform_attn::cpu::forward_op));
  m.impl("backward", TORCH_BOX(&ms_deform_attn::cpu::backward_op));
  m.impl("fused_forward", TORCH_BOX(&ms_deform_attn::cpu::fused_forward_op));
  m.impl("fused_backward", TORCH_BOX(&ms_deform_attn::cpu::fused_backward_op));
}
