// What must hold before a kernel may touch memory.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "shape.h"

namespace ms_deform_attn {

// The sizes, after a check that the tensors fit each other and are on one device. The value is
// float32, float64 or half; the others are of one dtype: the value's or, beside half, float32.
Shape checked_shape(const torch::stable::Tensor& value,
                    const torch::stable::Tensor& sampling_locations,
                    const torch::stable::Tensor& attention_weights);

// The same for the fused ops.
Shape checked_fused_shape(const torch::stable::Tensor& value,
                          const torch::stable::Tensor& reference_points,
                          const torch::stable::Tensor& sampling_offsets,
                          const torch::stable::Tensor& attention_logits);

// The levels, after a check that each lies inside the value. Both tensors must be on the CPU.
std::vector<Level> checked_levels(const torch::stable::Tensor& spatial_shapes,
                                  const torch::stable::Tensor& level_start_index,
                                  const Shape& shape);

void check_grad_output(const torch::stable::Tensor& grad_output,
                       const torch::stable::Tensor& value, const Shape& shape);

}  // namespace ms_deform_attn
