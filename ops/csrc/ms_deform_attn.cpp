// Schemas of the ops and the checks of their inputs.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "checks.h"

namespace ms_deform_attn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

bool is_half(ScalarType dtype) {
  return dtype == ScalarType::Half || dtype == ScalarType::BFloat16;
}

void check_dtype_and_device(const Tensor& tensor, const char* name, const Tensor& value,
                            ScalarType dtype) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, name,
                  " must be of the dtype of the other inputs: that of value or, beside a half "
                  "value, float32");
  STD_TORCH_CHECK(tensor.device() == value.device(), name, " must be on the device of value");
}

// `coordinates` and `weights` are called by the names that the caller knows.
Shape checked_shape(const Tensor& value, const Tensor& coordinates, const char* coordinates_name,
                    const Tensor& weights, const char* weights_name) {
  STD_TORCH_CHECK(value.dim() == 4, "value must have 4 dimensions, got ", value.dim());
  STD_TORCH_CHECK(coordinates.dim() == 6 && coordinates.size(5) == 2, coordinates_name,
                  " must have 6 dimensions, the last of size 2");
  STD_TORCH_CHECK(weights.dim() == 5, weights_name, " must have 5 dimensions, got ",
                  weights.dim());
  for (int64_t i = 0; i < 5; ++i) {
    STD_TORCH_CHECK(weights.size(i) == coordinates.size(i), weights_name, " and ",
                    coordinates_name, " differ in dimension ", i, ": ", weights.size(i), " and ",
                    coordinates.size(i));
  }
  STD_TORCH_CHECK(coordinates.size(0) == value.size(0), coordinates_name,
                  " and value differ in batch size: ", coordinates.size(0), " and ",
                  value.size(0));
  STD_TORCH_CHECK(coordinates.size(2) == value.size(2), coordinates_name,
                  " and value differ in the number of heads: ", coordinates.size(2), " and ",
                  value.size(2));

  const ScalarType value_dtype = value.scalar_type(), dtype = coordinates.scalar_type();
  STD_TORCH_CHECK(value_dtype == ScalarType::Float || value_dtype == ScalarType::Double ||
                      is_half(value_dtype),
                  "value must be float32, float64, float16 or bfloat16");
  const bool mixed = is_half(value_dtype) && dtype == ScalarType::Float;
  check_dtype_and_device(coordinates, coordinates_name, value, mixed ? dtype : value_dtype);
  check_dtype_and_device(weights, weights_name, value, dtype);
  return {value.size(0),       value.size(1),       value.size(2),      value.size(3),
          coordinates.size(1), coordinates.size(3), coordinates.size(4)};
}

Shape checked_shape(const Tensor& value, const Tensor& sampling_locations,
                    const Tensor& attention_weights) {
  return checked_shape(value, sampling_locations, "sampling_locations", attention_weights,
                       "attention_weights");
}

Shape checked_fused_shape(const Tensor& value, const Tensor& reference_points,
                          const Tensor& sampling_offsets, const Tensor& attention_logits) {
  const Shape shape = checked_shape(value, sampling_offsets, "sampling_offsets", attention_logits,
                                    "attention_logits");
  STD_TORCH_CHECK(
      reference_points.dim() == 4 && reference_points.size(0) == shape.bs &&
          reference_points.size(1) == shape.num_queries &&
          reference_points.size(2) == shape.num_levels &&
          (reference_points.size(3) == 2 || reference_points.size(3) == 4),
      "reference_points must be (bs, num_queries, num_levels, 2 or 4) and fit sampling_offsets");
  check_dtype_and_device(reference_points, "reference_points", value,
                         sampling_offsets.scalar_type());
  return shape;
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
  m.def(
      "fused_forward(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor reference_points, Tensor sampling_offsets, Tensor attention_logits) -> Tensor");
  m.def(
      "fused_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor reference_points, Tensor sampling_offsets, "
      "Tensor attention_logits) -> (Tensor, Tensor, Tensor, Tensor)");
}
