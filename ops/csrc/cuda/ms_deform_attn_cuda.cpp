// The ops for CUDA: memory, device and stream.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "../checks.h"
#include "determinism.h"
#include "ms_deform_attn_kernel.h"

namespace ms_deform_attn::cuda {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The inputs in contiguous memory; without references for the unfused ops.
struct Arguments {
  Shape shape;
  Levels levels{};
  Tensor value;
  Tensor references;
  Tensor positions;
  Tensor weights;
  int64_t reference_dims;

  Arguments(const Shape& sizes, const std::vector<Level>& level, const Tensor& value,
            const Tensor* references, const Tensor& positions, const Tensor& weights)
      : shape(sizes),
        value(torch::stable::contiguous(value)),
        references(references == nullptr ? Tensor() : torch::stable::contiguous(*references)),
        positions(torch::stable::contiguous(positions)),
        weights(torch::stable::contiguous(weights)),
        reference_dims(references == nullptr ? 0 : references->size(3)) {
    STD_TORCH_CHECK(level.size() <= kMaxLevels, "the CUDA kernels take at most ", kMaxLevels,
                    " levels, got ", level.size());
    STD_TORCH_CHECK(shape.num_heads * shape.head_dims <= kMaxChannels &&
                        shape.num_levels * shape.num_points <= kMaxSamples,
                    "the CUDA kernels take at most 2^28 channels, and samples of a query and head");
    std::copy(level.begin(), level.end(), levels.level);
  }

  bool fused() const { return reference_dims != 0; }

  bool half() const {
    return value.scalar_type() == ScalarType::Half || value.scalar_type() == ScalarType::BFloat16;
  }

  ScalarType wide() const { return half() ? ScalarType::Float : value.scalar_type(); }

  bool narrow() const { return weights.scalar_type() != wide(); }

  Type type() const {
    switch (value.scalar_type()) {
      case ScalarType::Double:
        return Type::kDouble;
      case ScalarType::Half:
        return Type::kHalf;
      case ScalarType::BFloat16:
        return Type::kBFloat16;
      default:
        return Type::kFloat;
    }
  }

  Inputs inputs() const {
    return {shape,
            levels,
            value.const_data_ptr(),
            int32_t(reference_dims),
            {fused() ? references.const_data_ptr() : nullptr, narrow()},
            {positions.const_data_ptr(), narrow()},
            {weights.const_data_ptr(), narrow()}};
  }
};

Arguments unfused(const Tensor& value, const Tensor& spatial_shapes,
                  const Tensor& level_start_index, const Tensor& sampling_locations,
                  const Tensor& attention_weights) {
  const Shape shape = checked_shape(value, sampling_locations, attention_weights);
  return {shape,   checked_levels(spatial_shapes, level_start_index, shape), value,
          nullptr, sampling_locations, attention_weights};
}

Arguments fused(const Tensor& value, const Tensor& spatial_shapes, const Tensor& level_start_index,
                const Tensor& reference_points, const Tensor& sampling_offsets,
                const Tensor& attention_logits) {
  const Shape shape =
      checked_fused_shape(value, reference_points, sampling_offsets, attention_logits);
  return {shape, checked_levels(spatial_shapes, level_start_index, shape),
          value, &reference_points, sampling_offsets, attention_logits};
}

void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}

void check_launch(const std::string& problem) {
  STD_TORCH_CHECK(problem.empty(), "ms_deform_attn could not be launched: ", problem);
}

Tensor run_forward(const Arguments& arguments) {
  const Shape& shape = arguments.shape;
  const torch::stable::accelerator::DeviceGuard guard(arguments.value.get_device_index());
  const Tensor output = torch::stable::new_empty(
      arguments.value, {shape.bs, shape.num_queries, shape.num_heads * shape.head_dims});
  check_launch(launch_forward(arguments.type(), arguments.inputs(), output.mutable_data_ptr(),
                              current_stream(arguments.value)));
  return output;
}

// Gradients of value, references (if there are any), positions and weights.
std::tuple<Tensor, Tensor, Tensor, Tensor> run_backward(const Arguments& arguments,
                                                        const Tensor& grad_output,
                                                        const Tensor& value) {
  using torch::stable::new_empty;
  using torch::stable::new_zeros;
  const Shape& shape = arguments.shape;
  check_grad_output(grad_output, value, shape);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const bool deterministic = deterministic_algorithms_enabled();
  const ScalarType wide = arguments.wide();

  const Tensor grad = torch::stable::contiguous(grad_output);
  const Tensor sums = new_zeros(arguments.value, value.sizes(),
                                deterministic ? ScalarType::Long : wide);
  const Tensor grad_value = sums.scalar_type() == value.scalar_type()
                                ? sums
                                : new_empty(arguments.value, value.sizes());
  const Tensor grad_positions = new_empty(arguments.positions, arguments.positions.sizes());
  const Tensor grad_weights = new_empty(arguments.weights, arguments.weights.sizes());
  Gradients gradients{grad.const_data_ptr(),
                      grad_value.mutable_data_ptr(),
                      {nullptr, arguments.narrow()},
                      {grad_positions.mutable_data_ptr(), arguments.narrow()},
                      {grad_weights.mutable_data_ptr(), arguments.narrow()}};
  Workspace workspace{sums.mutable_data_ptr(), nullptr, gradients.weights.data, nullptr};

  // The tensors live until the work is on the stream; torch frees memory in the stream's order.
  Tensor bounds, wide_weights, grad_references, references_of_heads;
  if (deterministic) {
    bounds = new_zeros(arguments.value, {2}, wide);
    workspace.bounds = bounds.mutable_data_ptr();
  }
  if (arguments.fused()) {
    grad_references = new_empty(arguments.references, arguments.references.sizes());
    gradients.references.data = grad_references.mutable_data_ptr();
    references_of_heads = new_zeros(arguments.value,
                                    {shape.bs, shape.num_queries, shape.num_heads,
                                     shape.num_levels, arguments.reference_dims},
                                    wide);
    workspace.references = references_of_heads.mutable_data_ptr();
    if (arguments.narrow()) {
      wide_weights = new_empty(arguments.weights, arguments.weights.sizes(), wide);
      workspace.weights = wide_weights.mutable_data_ptr();
    }
  }
  check_launch(launch_backward(arguments.type(), arguments.inputs(), gradients, workspace,
                               deterministic, current_stream(value)));
  return {grad_value, grad_references, grad_positions, grad_weights};
}

Tensor forward(const Tensor& value, const Tensor& spatial_shapes, const Tensor& level_start_index,
               const Tensor& sampling_locations, const Tensor& attention_weights) {
  return run_forward(
      unfused(value, spatial_shapes, level_start_index, sampling_locations, attention_weights));
}

std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& grad_output, const Tensor& value, const Tensor& spatial_shapes,
    const Tensor& level_start_index, const Tensor& sampling_locations,
    const Tensor& attention_weights) {
  const auto [grad_value, _, grad_locations, grad_weights] = run_backward(
      unfused(value, spatial_shapes, level_start_index, sampling_locations, attention_weights),
      grad_output, value);
  return {grad_value, grad_locations, grad_weights};
}

Tensor fused_forward(const Tensor& value, const Tensor& spatial_shapes,
                     const Tensor& level_start_index, const Tensor& reference_points,
                     const Tensor& sampling_offsets, const Tensor& attention_logits) {
  return run_forward(fused(value, spatial_shapes, level_start_index, reference_points,
                           sampling_offsets, attention_logits));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fused_backward(
    const Tensor& grad_output, const Tensor& value, const Tensor& spatial_shapes,
    const Tensor& level_start_index, const Tensor& reference_points,
    const Tensor& sampling_offsets, const Tensor& attention_logits) {
  return run_backward(fused(value, spatial_shapes, level_start_index, reference_points,
                            sampling_offsets, attention_logits),
                      grad_output, value);
}

}  // namespace ms_deform_attn::cuda

STABLE_TORCH_LIBRARY_IMPL(ms_deform_attn, CUDA, m) {
  m.impl("forward", TORCH_BOX(&ms_deform_attn::cuda::forward));
  m.impl("backward", TORCH_BOX(&ms_deform_attn::cuda::backward));
  m.impl("fused_forward", TORCH_BOX(&ms_deform_attn::cuda::fused_forward));
  m.impl("fused_backward", TORCH_BOX(&ms_deform_attn::cuda::fused_backward));
}
