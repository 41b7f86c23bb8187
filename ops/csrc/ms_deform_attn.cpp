// Schemas of the ops and the checks of their inputs.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "checks.h"

namespace ms_deform_attn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Shape checked_shape(const Tensor& value, const Tensor& sampling_locations,
                    const Tensor& attention_weights) {
  STD_TORCH_CHECK(value.dim() == 4, "value must have 4 dimensions, got ", value.dim());
  STD_TORCH_CHECK(sampling_locations.dim() == 6 && sampling_locations.size(5) == 2,
                  "sampling_locations must have 6 dimensions, the last of size 2");
  STD_TORCH_CHECK(attention_weights.dim() == 5, "attention_weights must have 5 dimensions, got ",
                  attention_weights.dim());
  for (int64_t i = 0; i < 5; ++i) {
    STD_TORCH_CHECK(attention_weights.size(i) == sampling_locations.size(i),
                    "attention_weights and sampling_locations differ in dimension ", i, ": ",
                    attention_weights.size(i), " and ", sampling_locations.size(i));
  }
  STD_TORCH_CHECK(sampling_locations.size(0) == value.size(0),
                  "sampling_locations and value differ in batch size: ",
                  sampling_locations.size(0), " and ", value.size(0));
  STD_TORCH_CHECK(sampling_locations.size(2) == value.size(2),
                  "sampling_locations and value differ in the number of heads: ",
                  sampling_locations.size(2), " and ", value.size(2));
  STD_TORCH_CHECK(
      value.scalar_type() == ScalarType::Float || value.scalar_type() == ScalarType::Double,
      "value must be float32 or float64");
  for (const Tensor* tensor : {&sampling_locations, &attention_weights}) {
    STD_TORCH_CHECK(tensor->scalar_type() == value.scalar_type(),
                    "sampling_locations and attention_weights must have the dtype of value");
    STD_TORCH_CHECK(tensor->device() == value.device(),
                    "sampling_locations and attention_weights must be on the device of value");
  }
  return {value.size(0),
          value.size(1),
          value.size(2),
          value.size(3),
          sampling_locations.size(1),
          sampling_locations.size(3),
          sampling_locations.size(4)};
}

std::vector<Level> checked_levels(const Tensor& spatial_shapes, const Tensor& level_start_index,
                                  const Shape& shape) {
  STD_TORCH_CHECK(spatial_shapes.dim() == 2 && spatial_shapes.size(0) == shape.num_levels &&
                      spatial_shapes.size(1) == 2,
                  "spatial_shapes must be (num_levels, 2) with num_levels = ", shape.num_levels);
  STD_TORCH_CHECK(
      level_start_index.dim() == 1 && level_start_index.size(0) == shape.num_levels,
      "level_start_index must be (num_levels,) with num_levels = ", shape.num_levels);
  for (const Tensor* tensor : {&spatial_shapes, &level_start_index}) {
    STD_TORCH_CHECK(tensor->is_cpu() && tensor->scalar_type() == ScalarType::Long,
                    "spatial_shapes and level_start_index must be int64 tensors on the CPU");
  }
  const Tensor packed_shapes = torch::stable::contiguous(spatial_shapes);
  const Tensor packed_starts = torch::stable::contiguous(level_start_index);
  const int64_t* sizes = packed_shapes.const_data_ptr<int64_t>();
  const int64_t* starts = packed_starts.const_data_ptr<int64_t>();

  STD_TORCH_CHECK(shape.num_value <= kMaxPositions, "value must have at most 2^30 positions, got ",
                  shape.num_value);
  std::vector<Level> levels;
  for (int64_t i = 0; i < shape.num_levels; ++i) {
    const int64_t start = starts[i], height = sizes[2 * i], width = sizes[2 * i + 1];
    // A division, because the product of height and width could overflow.
    const bool inside = start >= 0 && start < shape.num_value && height >= 1 && width >= 1 &&
                        width <= (shape.num_value - start) / height;
    STD_TORCH_CHECK(inside, "level ", i, " of shape (", height, ", ", width, ") that starts at ",
                    start, " exceeds the value, which has ", shape.num_value, " positions");
    levels.push_back({int32_t(start), int32_t(height), int32_t(width)});
  }
  return levels;
}

void check_grad_output(const Tensor& grad_output, const Tensor& value, const Shape& shape) {
  STD_TORCH_CHECK(grad_output.dim() == 3 && grad_output.size(0) == shape.bs &&
                      grad_output.size(1) == shape.num_queries &&
                      grad_output.size(2) == shape.num_heads * shape.head_dims,
                  "grad_output must be (bs, num_queries, num_heads * head_dims)");
  STD_TORCH_CHECK(grad_output.scalar_type() == value.scalar_type() &&
                      grad_output.device() == value.device(),
                  "grad_output must have the dtype and device of value");
}

}  // namespace ms_deform_attn

STABLE_TORCH_LIBRARY(ms_deform_attn, m) {
  m.def(
      "forward(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor");
  m.def(
      "backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor sampling_locations, Tensor attention_weights) "
      "-> (Tensor, Tensor, Tensor)");
}
