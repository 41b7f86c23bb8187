// The ops for CUDA: memory, device and stream.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "../checks.h"
#include "ms_deform_attn_kernel.h"

namespace ms_deform_attn::cuda {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Levels as_argument(const std::vector<Level>& levels) {
  STD_TORCH_CHECK(levels.size() <= kMaxLevels, "the CUDA kernels take at most ", kMaxLevels,
                  " levels, got ", levels.size());
  Levels argument{};
  std::copy(levels.begin(), levels.end(), argument.level);
  return argument;
}

void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}

void check_launch(const char* problem) {
  STD_TORCH_CHECK(problem == nullptr, "ms_deform_attn could not be launched: ", problem);
}

template <typename T>
Inputs<T> inputs_of(const Shape& shape, const Levels& levels, const Tensor& value,
                    const Tensor& locations, const Tensor& weights) {
  return {shape, levels, value.const_data_ptr<T>(), locations.const_data_ptr<T>(),
          weights.const_data_ptr<T>()};
}

Tensor forward(const Tensor& value, const Tensor& spatial_shapes, const Tensor& level_start_index,
               const Tensor& sampling_locations, const Tensor& attention_weights) {
  const Shape shape = checked_shape(value, sampling_locations, attention_weights);
  const Levels levels = as_argument(checked_levels(spatial_shapes, level_start_index, shape));
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor packed = torch::stable::contiguous(value);
  const Tensor locations = torch::stable::contiguous(sampling_locations);
  const Tensor weights = torch::stable::contiguous(attention_weights);
  const Tensor output = torch::stable::new_empty(
      value, {shape.bs, shape.num_queries, shape.num_heads * shape.head_dims});

  const auto run = [&](auto zero) {
    using T = decltype(zero);
    check_launch(launch_forward<T>(inputs_of<T>(shape, levels, packed, locations, weights),
                                   output.mutable_data_ptr<T>(), current_stream(value)));
  };
  value.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return output;
}

std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& grad_output, const Tensor& value, const Tensor& spatial_shapes,
    const Tensor& level_start_index, const Tensor& sampling_locations,
    const Tensor& attention_weights) {
  const Shape shape = checked_shape(value, sampling_locations, attention_weights);
  const Levels levels = as_argument(checked_levels(spatial_shapes, level_start_index, shape));
  check_grad_output(grad_output, value, shape);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor packed = torch::stable::contiguous(value);
  const Tensor locations = torch::stable::contiguous(sampling_locations);
  const Tensor weights = torch::stable::contiguous(attention_weights);
  const Tensor grad = torch::stable::contiguous(grad_output);
  const Tensor grad_value = torch::stable::new_zeros(value, value.sizes());
  const Tensor grad_locations = torch::stable::new_empty(locations, locations.sizes());
  const Tensor grad_weights = torch::stable::new_empty(weights, weights.sizes());

  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const Gradients<T> gradients{grad.const_data_ptr<T>(), grad_value.mutable_data_ptr<T>(),
                                 grad_locations.mutable_data_ptr<T>(),
                                 grad_weights.mutable_data_ptr<T>()};
    check_launch(launch_backward<T>(inputs_of<T>(shape, levels, packed, locations, weights),
                                    gradients, current_stream(value)));
  };
  value.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace ms_deform_attn::cuda

STABLE_TORCH_LIBRARY_IMPL(ms_deform_attn, CUDA, m) {
  m.impl("forward", TORCH_BOX(&ms_deform_attn::cuda::forward));
  m.impl("backward", TORCH_BOX(&ms_deform_attn::cuda::backward));
}
