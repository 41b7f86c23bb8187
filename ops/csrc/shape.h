// Sizes that the host code and the kernels share. Includes nothing of torch.
#pragma once

#include <cstdint>

namespace ms_deform_attn {

struct Shape {
  int64_t bs;
  int64_t num_value;
  int64_t num_heads;
  int64_t head_dims;
  int64_t num_queries;
  int64_t num_levels;
  int64_t num_points;
};

// A level is an image of height x width pixels, rows first, from position `start` of the value on.
// Positions fit into 32 bits, offsets of elements need not.
struct Level {
  int32_t start;
  int32_t height;
  int32_t width;
};

// Leaves room for positions one row beyond the value.
constexpr int64_t kMaxPositions = int64_t(1) << 30;

}  // namespace ms_deform_attn
