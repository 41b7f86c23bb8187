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
struct Level {
  int64_t start;
  int64_t height;
  int64_t width;
};

}  // namespace ms_deform_attn
