// One layer's KV cache, and attention of a whole step over it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "batch.h"
#include "kernels.h"
#include "matrix.h"
#include "products.h"

namespace lepton {

class ThreadPool;

// Keys and values of one layer in blocks of 16 tokens, in memory that the caller owns.
class KvCache {
 public:
  KvCache() = default;
  KvCache(CacheType type, size_t num_kv_heads, size_t head_dim);

  // Block b lies `block_stride` · b bytes after `data`; to be called before anything else is done.
  void place(uint8_t* data, size_t block_stride);

  const CacheView& view() const { return view_; }
  size_t bytes_per_block() const { return view_.num_kv_heads * view_.unit_bytes; }

  // Puts a token's key and value [head_dim] of one head into its slot.
  void store(size_t block, size_t slot, size_t head, const float* key, const float* value) const;

 private:
  CacheView view_{};
};

// What the queries of a layer do with its cache.
struct AttentionShape {
  size_t num_heads;  // a multiple of the cache's KV heads
  float scale;       // of scores
  size_t window;     // positions a row sees, its own included
  bool rounded;      // whether a cache in bf16 meets queries and weights rounded to bf16
};

// Causal attention of all rows of a step; keeps its scratch memory between calls.
class Attention {
 public:
  // mixed [rows, heads · head_dim] from rotated queries of that shape, once the keys and values of
  // the step's own rows are stored.
  struct Call {
    const AttentionShape& shape;
    const CacheView& cache;
    const BatchView& batch;
    const Rows& queries;
    const Rows& mixed;

    size_t group() const { return shape.num_heads / cache.num_kv_heads; }
  };

  Attention(ThreadPool& pool, const KernelTable& kernels) : pool_(pool), kernels_(kernels) {}

  void run(const Call& call);

 private:
  // Consecutive rows of one sequence and their queries of one KV head, which share loads of its
  // keys and values. A task is one work item, or one for each segment of its context.
  struct Task {
    size_t sequence, row, rows, kv_head;
    size_t segment_begin, segment_end;
    size_t parts;        // work items
    size_t split_query;  // the first of its states in split_states_, when it has several parts

    size_t segments() const { return segment_end - segment_begin; }
    size_t cost() const { return rows * segments(); }
  };
  struct Item {
    size_t task, part;
  };
  struct States {
    std::vector<AttendState> softmax;
    Rows sums;

    void reserve(size_t queries, size_t padded_dim);
  };
  struct Worker {
    States states;
    Rows scratch;
  };

  void plan(const Call& call);
  void work(const Call& call, const Item& part, Worker& worker);

  ThreadPool& pool_;
  const KernelTable& kernels_;
  std::vector<Task> tasks_;
  std::vector<Item> items_;
  std::vector<uint32_t> parts_left_;  // per task, counted down atomically
  States split_states_;
  std::vector<Worker> workers_;
};

}  // namespace lepton
