// The order in which the queries of an image are processed.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "../shape.h"

namespace ms_deform_attn::cpu {

// The queries of an encoder are the positions of the value. Tile by tile, neighbours in both
// directions follow each other, and the pixels that they share are still in the cache.
inline std::vector<int64_t> query_order(const Shape& shape, const std::vector<Level>& levels) {
  constexpr int32_t kTile = 8;
  std::vector<int64_t> order;
  order.reserve(shape.num_queries);
  if (shape.num_queries == shape.num_value) {
    for (const Level& level : levels) {
      if (level.start != int64_t(order.size())) break;
      for (int32_t top = 0; top < level.height; top += kTile) {
        for (int32_t left = 0; left < level.width; left += kTile) {
          for (int32_t y = top; y < std::min(top + kTile, level.height); ++y) {
            for (int32_t x = left; x < std::min(left + kTile, level.width); ++x) {
              order.push_back(level.start + y * level.width + x);
            }
          }
        }
      }
    }
  }
  // The others, or those behind the last level, come as they are.
  const size_t placed = order.size();
  order.resize(shape.num_queries);
  std::iota(order.begin() + placed, order.end(), int64_t(placed));
  return order;
}

}  // namespace ms_deform_attn::cpu
