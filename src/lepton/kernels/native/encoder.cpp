#include "encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "half.h"

namespace lepton {

namespace {

// Tokens that one thread takes through all layers at a time, so that their states stay in its
// second-level cache.
constexpr size_t kGroupTokens = 256;
// Fewer are not worth a pass over the weights of their own.
constexpr size_t kLeastGroupTokens = 96;
// Rows that a team's threads take at a time.
constexpr size_t kRowGrain = 16;
constexpr size_t kProductRows = 128;

size_t round_to(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

void check(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

void check_norm(const std::optional<EncoderNorm>& norm, size_t size) {
  check(!norm || (norm->weight.size() == size && (norm->bias.empty() || norm->bias.size() == size)),
        "a norm has the wrong size");
}

void check_linear(DenseLinear& linear, size_t outputs, size_t inputs, DenseType type) {
  check(linear.matrix && linear.matrix->rows() == outputs && linear.matrix->columns() == inputs &&
            linear.matrix->type() == type && (linear.bias.empty() || linear.bias.size() == outputs),
        "weights have the wrong shape or type");
  linear.bias.resize(round_to(outputs, 16), 0.0f);
}

// Rows of bytes that grow on demand, each with a cache line of its own behind it, so that the same
// column of many rows falls into many sets of a cache.
class ByteRows {
 public:
  // What the rows held before is lost.
  void reserve(size_t rows, size_t bytes) {
    stride_ = round_to(bytes, 64) + 64;
    if (rows * stride_ > buffer_.size()) buffer_ = AlignedBuffer(rows * stride_);
  }
  uint8_t* row(size_t index) const { return buffer_.data() + index * stride_; }
  template <class T>
  T* row(size_t index) const {
    return reinterpret_cast<T*>(row(index));
  }
  size_t stride() const { return stride_; }

 private:
  AlignedBuffer buffer_;
  size_t stride_ = 0;
};

void turn(float* head, size_t half, const EncoderRope& rope, float position) {
  for (size_t i = 0; i < half; ++i) {
    const float angle = position * rope.inverse_frequencies[i];
    const float cosine = static_cast<float>(std::cos(double{angle})) * rope.magnitude;
    const float sine = static_cast<float>(std::sin(double{angle})) * rope.magnitude;
    float& a = rope.interleaved ? head[2 * i] : head[i];
    float& b = rope.interleaved ? head[2 * i + 1] : head[i + half];
    const float x = a, y = b;
    a = x * cosine - y * sine;
    b = x * sine + y * cosine;
  }
}

}  // namespace

struct EncoderProgram::Layer {
  std::optional<EncoderAttentionStage> attention;
  std::optional<EncoderMlpStage> mlp;
};

// Texts that go through all layers together.
struct EncoderProgram::Group {
  size_t first_text, last_text;  // exclusive
  size_t first_row, rows;
};

struct EncoderProgram::Workspace {
  ByteRows state;                        // float [rows, hidden]
  ByteRows operand;                      // what the next product takes
  ByteRows joined;                       // queries, keys, values
  ByteRows mixed;                        // what attention gives
  ByteRows inner;                        // of an MLP
  ByteRows delta;                        // float: what is added to the state
  std::vector<QuantizedRow> quantized;   // the rows of an operand of whole numbers
  std::vector<AlignedBuffer> scratch;    // per thread of the team
  std::vector<std::vector<float>> line;  // one row of floats, per thread of the team
};

// The threads that share the work on a group: all of the pool, or the caller alone.
struct EncoderProgram::Team {
  ThreadPool* pool;

  size_t size() const { return pool ? static_cast<size_t>(pool->threads()) : 1; }
  template <class Body>
  void each(size_t count, size_t grain, const Body& body) const {
    if (pool == nullptr || count <= grain)
      body(size_t{0}, count, size_t{0});
    else
      pool->parallel_for(count, grain, [&](size_t begin, size_t end, int worker) {
        body(begin, end, static_cast<size_t>(worker));
      });
  }
};

EncoderProgram::EncoderProgram(std::shared_ptr<ThreadPool> threads, size_t hidden, DenseType type,
                               const std::string& isa)
    : threads_(std::move(threads)),
      hidden_(hidden),
      type_(type),
      kernels_(encoder_kernels(isa, type == DenseType::kBFloat16 || type == DenseType::kInt8)),
      operand_element_(4 / inputs_per_step(type)),
      half_(kernels_.attend_half != nullptr) {
  check(hidden > 0, "hidden must be positive");
  check(kernels_.multiply[static_cast<size_t>(type)] != nullptr,
        "this machine has no instructions for products in bfloat16");
  for (int i = 0; i < threads_->threads(); ++i)
    workspaces_.push_back(std::make_unique<Workspace>());
}

EncoderProgram::~EncoderProgram() = default;

void EncoderProgram::set_embedding(EncoderEmbedding e) {
  check((e.table || e.matrix) && e.hidden() == hidden_, "embedding must be [vocabulary, hidden]");
  check(e.positions.values.size() % hidden_ == 0 && e.kinds.values.size() % hidden_ == 0,
        "tables must be [rows, hidden]");
  check_norm(e.norm, hidden_);
  embedding_ = std::move(e);
}

void EncoderProgram::add_attention(EncoderAttentionStage s) {
  check(s.head_dim > 0 && s.head_dim % 2 == 0, "head_dim must be positive and even");
  check(s.num_kv_heads > 0 && s.num_heads > 0 && s.num_heads % s.num_kv_heads == 0,
        "num_heads must be a multiple of num_kv_heads");
  check(!s.rope || s.rope->inverse_frequencies.size() * 2 == s.head_dim,
        "rope must have head_dim / 2 frequencies");
  const size_t width = (s.num_heads + 2 * s.num_kv_heads) * s.head_dim;
  check_linear(s.joined, width, hidden_, type_);
  check_linear(s.output, hidden_, s.num_heads * s.head_dim, type_);
  for (const auto* norm : {&s.norm, &s.post_norm, &s.residual_norm}) check_norm(*norm, hidden_);
  for (const auto* norm : {&s.query_norm, &s.key_norm}) check_norm(*norm, s.head_dim);
  auto layer = std::make_unique<Layer>();
  layer->attention = std::move(s);
  layers_.push_back(std::move(layer));
}

void EncoderProgram::add_mlp(EncoderMlpStage s) {
  check(s.up.matrix != nullptr && s.up.matrix->rows() % (s.gated ? 2 : 1) == 0,
        "the way up of an MLP is missing or odd");
  const size_t inner = s.up.matrix->rows() / (s.gated ? 2 : 1);
  check_linear(s.up, s.up.matrix->rows(), hidden_, type_);
  check_linear(s.down, hidden_, inner, type_);
  check(!s.gated || inner % 16 == 0, "a gated MLP must have whole vectors of 16");
  for (const auto* norm : {&s.norm, &s.post_norm, &s.residual_norm}) check_norm(*norm, hidden_);
  auto layer = std::make_unique<Layer>();
  layer->mlp = std::move(s);
  layers_.push_back(std::move(layer));
}

void EncoderProgram::set_final_norm(EncoderNorm norm) {
  final_norm_ = std::move(norm);
  check_norm(final_norm_, hidden_);
}

void EncoderProgram::validate(const TextBatch& b) const {
  check(embedding_.table || embedding_.matrix, "the program has no embedding");
  check(b.row_starts[0] == 0 && static_cast<size_t>(b.row_starts[b.texts]) == b.rows,
        "row_starts must run from 0 to the number of rows");
  const auto vocabulary = static_cast<int64_t>(embedding_.vocabulary());
  const size_t positions = embedding_.positions.values.size() / hidden_;
  const auto kinds =
      static_cast<int64_t>(std::max<size_t>(1, embedding_.kinds.values.size() / hidden_));
  for (size_t t = 0; t < b.texts; ++t) {
    check(b.row_starts[t] < b.row_starts[t + 1], "every text needs at least one row");
    const auto tokens = static_cast<size_t>(b.row_starts[t + 1] - b.row_starts[t]);
    check(positions == 0 || tokens + embedding_.position_offset <= positions,
          "a text is longer than the model has positions for");
    check(b.pool_starts == nullptr ||
              (b.pool_starts[t] >= 0 && static_cast<size_t>(b.pool_starts[t]) < tokens),
          "pooling must leave a token of each text");
  }
  for (size_t r = 0; r < b.rows; ++r) {
    check(b.token_ids[r] >= 0 && b.token_ids[r] < vocabulary, "token id outside the vocabulary");
    check(b.kinds == nullptr || (b.kinds[r] >= 0 && b.kinds[r] < kinds),
          "token kind outside its table");
  }
}

std::vector<EncoderProgram::Group> EncoderProgram::groups(const TextBatch& batch,
                                                          size_t most_tokens) const {
  std::vector<Group> found;
  for (size_t t = 0; t < batch.texts; ++t) {
    const auto begin = static_cast<size_t>(batch.row_starts[t]);
    const auto end = static_cast<size_t>(batch.row_starts[t + 1]);
    if (found.empty() || end - found.back().first_row > most_tokens)
      found.push_back({t, t, begin, 0});
    found.back().last_text = t + 1;
    found.back().rows = end - found.back().first_row;
  }
  return found;
}

void EncoderProgram::forward(const TextBatch& batch, TextPooling pooling, float* out) {
  if (busy_.test_and_set(std::memory_order_acquire))
    throw std::logic_error("another thread is running this program");
  const std::unique_ptr<std::atomic_flag, void (*)(std::atomic_flag*)> idle(
      &busy_, [](std::atomic_flag* f) { f->clear(std::memory_order_release); });
  validate(batch);
  if (batch.rows == 0) return;
  const auto threads = static_cast<size_t>(threads_->threads());
  // Each thread takes groups of texts through all layers, without waiting for the others; where
  // there is too little text for that, they share every product.
  const size_t share = std::clamp(batch.rows / (threads * 2), kLeastGroupTokens, kGroupTokens);
  const std::vector<Group> shares = groups(batch, share);
  if (threads > 1 && shares.size() < threads * 2) {
    const Team team{threads_.get()};
    for (const Group& group : groups(batch, kGroupTokens * threads))
      run(group, batch, pooling, *workspaces_[0], team, out);
    return;
  }
  threads_->parallel_for(shares.size(), 1, [&](size_t begin, size_t end, int worker) {
    for (size_t g = begin; g < end; ++g)
      run(shares[g], batch, pooling, *workspaces_[static_cast<size_t>(worker)], Team{nullptr}, out);
  });
}

const std::optional<EncoderNorm>* EncoderProgram::norm_before(size_t layer) const {
  if (layer >= layers_.size()) return nullptr;
  const Layer& next = *layers_[layer];
  return next.attention ? &next.attention->norm : &next.mlp->norm;
}

void EncoderProgram::run(const Group& group, const TextBatch& batch, TextPooling pooling,
                         Workspace& work, const Team& team, float* out) const {
  work.line.resize(team.size());
  work.scratch.resize(team.size());
  work.state.reserve(group.rows, hidden_ * sizeof(float));
  work.delta.reserve(group.rows, round_to(hidden_, 16) * sizeof(float));
  embed(group, batch, work, team);
  advance(nullptr, &embedding_.norm, norm_before(0), false, group.rows, work, team);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = *layers_[l];
    if (layer.attention) {
      attend(layer, group, batch, work, team);
      advance(&layer.attention->post_norm, &layer.attention->residual_norm, norm_before(l + 1),
              true, group.rows, work, team);
    } else {
      mix(layer, group.rows, work, team);
      advance(&layer.mlp->post_norm, &layer.mlp->residual_norm, norm_before(l + 1), true,
              group.rows, work, team);
    }
  }
  if (final_norm_) advance(nullptr, &final_norm_, nullptr, false, group.rows, work, team);
  pool(group, batch, pooling, work, out);
}

void EncoderProgram::embed(const Group& group, const TextBatch& batch, Workspace& work,
                           const Team& team) const {
  const EncoderEmbedding& e = embedding_;
  for (size_t t = group.first_text; t < group.last_text; ++t) {
    const auto first = static_cast<size_t>(batch.row_starts[t]);
    const auto last = static_cast<size_t>(batch.row_starts[t + 1]);
    team.each(last - first, kRowGrain, [&](size_t begin, size_t end, size_t) {
      for (size_t i = begin; i < end; ++i) {
        const size_t r = first + i;
        float* x = work.state.row<float>(r - group.first_row);
        const auto token = static_cast<size_t>(batch.token_ids[r]);
        e.table ? e.table->unpack_row(token, x) : e.matrix->unpack_row(token, x);
        if (e.scale != 1.0f)
          for (size_t c = 0; c < hidden_; ++c) x[c] *= e.scale;
        if (!e.positions.values.empty())
          kernels_.add(e.positions.values.data() + (i + e.position_offset) * hidden_, hidden_, x);
        if (!e.kinds.values.empty()) {
          const size_t kind = batch.kinds ? static_cast<size_t>(batch.kinds[r]) : 0;
          kernels_.add(e.kinds.values.data() + kind * hidden_, hidden_, x);
        }
      }
    });
  }
}

namespace {

void apply_norm(const EncoderKernels& kernels, const EncoderNorm& norm, const float* x, float* y) {
  const size_t size = norm.weight.size();
  if (norm.bias.empty())
    kernels.rms_norm(x, norm.weight.data(), norm.epsilon, size, y);
  else
    kernels.layer_norm(x, norm.weight.data(), norm.bias.data(), norm.epsilon, size, y);
}

}  // namespace

// The operand of the next product from `count` floats at x, which are zero-padded there to a
// multiple of 16.
void EncoderProgram::emit(const float* x, size_t row, size_t count, Workspace& work) const {
  const size_t padded = round_to(count, 16);
  uint8_t* target = work.operand.row(row);
  if (type_ == DenseType::kFloat32)
    std::memcpy(target, x, padded * sizeof(float));
  else if (type_ == DenseType::kBFloat16)
    kernels_.to_half(x, padded, reinterpret_cast<uint16_t*>(target));
  else if (type_ == DenseType::kInt8)
    work.quantized[row] = kernels_.quantize(x, count, target);
  else
    work.quantized[row] = kernels_.quantize_words(x, count, reinterpret_cast<int16_t*>(target));
}

// Ends a stage and begins the next: adds what the stage gave to the state, normalizes it, and makes
// the operand of the next product from it.
void EncoderProgram::advance(const std::optional<EncoderNorm>* post,
                             const std::optional<EncoderNorm>* residual,
                             const std::optional<EncoderNorm>* next, bool add, size_t rows,
                             Workspace& work, const Team& team) const {
  const size_t padded = round_to(hidden_, 16);
  if (next != nullptr) {
    work.operand.reserve(rows, padded * operand_element_);
    work.quantized.resize(std::max(work.quantized.size(), rows));
  }
  team.each(rows, kRowGrain, [&](size_t begin, size_t end, size_t worker) {
    std::vector<float>& line = work.line[worker];
    line.assign(padded, 0.0f);
    for (size_t r = begin; r < end; ++r) {
      float* x = work.state.row<float>(r);
      if (add) {
        float* delta = work.delta.row<float>(r);
        if (post != nullptr && *post) apply_norm(kernels_, **post, delta, delta);
        kernels_.add(delta, hidden_, x);
      }
      if (residual != nullptr && *residual) apply_norm(kernels_, **residual, x, x);
      if (next == nullptr) continue;
      const float* y = x;
      if (*next) {
        apply_norm(kernels_, **next, x, line.data());
        y = line.data();
      } else if (padded != hidden_) {
        std::memcpy(line.data(), x, hidden_ * sizeof(float));
        y = line.data();
      }
      emit(y, r, hidden_, work);
    }
  });
}

void EncoderProgram::multiply(const DenseLinear& linear, size_t rows, Activation activation,
                              uint8_t* output, size_t output_stride, bool half_output,
                              const Workspace& work, const Team& team) const {
  const DenseMatrix& matrix = *linear.matrix;
  const auto kernel = kernels_.multiply[static_cast<size_t>(type_)];
  const size_t element = half_output ? sizeof(uint16_t) : sizeof(float);
  const auto part = [&](size_t row_begin, size_t row_end, size_t panel, size_t count) {
    DenseProduct product{};
    product.input = work.operand.row(row_begin);
    product.input_stride = work.operand.stride();
    product.rows = row_end - row_begin;
    product.steps = matrix.steps();
    product.panels = matrix.panel(panel);
    product.panel_bytes = matrix.panel_bytes();
    product.num_panels = count;
    product.bias = linear.bias.data() + panel * 16;
    if (has_scales(type_)) {
      product.scales = matrix.scales() + panel * 16;
      product.sums = matrix.sums() + panel * 16;
      if (type_ == DenseType::kInt8) product.starts = matrix.starts() + panel * 16;
      product.quantized = work.quantized.data() + row_begin;
    }
    product.output = output + row_begin * output_stride + panel * 16 * element;
    product.output_stride = output_stride;
    product.half_output = half_output;
    product.activation = activation;
    kernel(product);
  };
  if (team.pool == nullptr) return part(0, rows, 0, matrix.panels());
  const size_t pairs = (matrix.panels() + 1) / 2;
  const size_t blocks = (rows + kProductRows - 1) / kProductRows;
  const size_t grain = std::max<size_t>(1, pairs / (team.size() * 4));
  team.each(pairs * blocks, grain, [&](size_t begin, size_t end, size_t) {
    while (begin < end) {
      const size_t block = begin / pairs, first = begin % pairs;
      const size_t count = std::min(end - begin, pairs - first);
      const size_t last = std::min((first + count) * 2, matrix.panels());
      part(rows * block / blocks, rows * (block + 1) / blocks, first * 2, last - first * 2);
      begin += count;
    }
  });
}

void EncoderProgram::rotate(const EncoderAttentionStage& s, const Group& group,
                            const TextBatch& batch, Workspace& work, const Team& team) const {
  if (!s.rope && !s.query_norm && !s.key_norm) return;
  const size_t heads = s.num_heads + s.num_kv_heads, width = heads * s.head_dim;
  for (size_t t = group.first_text; t < group.last_text; ++t) {
    const size_t first = static_cast<size_t>(batch.row_starts[t]) - group.first_row;
    const size_t last = static_cast<size_t>(batch.row_starts[t + 1]) - group.first_row;
    team.each(last - first, kRowGrain, [&](size_t begin, size_t end, size_t worker) {
      std::vector<float>& line = work.line[worker];
      line.resize(std::max(line.size(), round_to(width, 16)));
      for (size_t i = begin; i < end; ++i) {
        uint8_t* row = work.joined.row(first + i);
        float* x = half_ ? line.data() : reinterpret_cast<float*>(row);
        if (half_) kernels_.from_half(reinterpret_cast<uint16_t*>(row), round_to(width, 16), x);
        for (size_t h = 0; h < heads; ++h) {
          float* head = x + h * s.head_dim;
          const auto& norm = h < s.num_heads ? s.query_norm : s.key_norm;
          if (norm) apply_norm(kernels_, *norm, head, head);
          if (s.rope) turn(head, s.head_dim / 2, *s.rope, static_cast<float>(i));
        }
        if (!half_) continue;
        // What the last vector holds of the values goes back as it came.
        kernels_.to_half(x, round_to(width, 16), reinterpret_cast<uint16_t*>(row));
      }
    });
  }
}

void EncoderProgram::attend(const Layer& layer, const Group& group, const TextBatch& batch,
                            Workspace& work, const Team& team) const {
  const EncoderAttentionStage& s = *layer.attention;
  const size_t element = half_ ? sizeof(uint16_t) : sizeof(float);
  const size_t width = s.num_heads * s.head_dim, shared = s.num_kv_heads * s.head_dim;
  const size_t padded = round_to(width, 16);
  work.joined.reserve(group.rows, round_to(width + 2 * shared, 16) * element);
  multiply(s.joined, group.rows, Activation::kNone, work.joined.row(0), work.joined.stride(), half_,
           work, team);
  rotate(s, group, batch, work, team);
  // In bf16 the result is the operand of the next product as it is.
  ByteRows& mixed = has_scales(type_) ? work.mixed : work.operand;
  mixed.reserve(group.rows, padded * element);
  size_t longest = 0;
  for (size_t t = group.first_text; t < group.last_text; ++t)
    longest = std::max(longest, static_cast<size_t>(batch.row_starts[t + 1] - batch.row_starts[t]));
  const size_t scratch = attention_scratch_bytes(longest, s.head_dim);
  for (AlignedBuffer& buffer : work.scratch)
    if (buffer.size() < scratch) buffer = AlignedBuffer(scratch);
  const auto kernel = half_ ? kernels_.attend_half : kernels_.attend;
  const size_t per_kv = s.num_heads / s.num_kv_heads;
  const size_t texts = group.last_text - group.first_text;
  team.each(texts * s.num_kv_heads, 1, [&](size_t begin, size_t end, size_t worker) {
    for (size_t i = begin; i < end; ++i) {
      const size_t text = group.first_text + i / s.num_kv_heads, head = i % s.num_kv_heads;
      const size_t first = static_cast<size_t>(batch.row_starts[text]) - group.first_row;
      const uint8_t* row = work.joined.row(first);
      EncoderAttention item{};
      item.queries = row + head * per_kv * s.head_dim * element;
      item.keys = row + (width + head * s.head_dim) * element;
      item.values = row + (width + shared + head * s.head_dim) * element;
      item.stride = work.joined.stride();
      item.tokens = static_cast<size_t>(batch.row_starts[text + 1] - batch.row_starts[text]);
      item.group = per_kv;
      item.head_dim = s.head_dim;
      item.scale = s.scale;
      item.causal = s.causal;
      item.window = s.window == 0 ? SIZE_MAX : s.window;
      item.row_begin = 0;
      item.row_end = item.tokens;
      item.output = mixed.row(first) + head * per_kv * s.head_dim * element;
      item.output_stride = mixed.stride();
      item.scratch = work.scratch[worker].data();
      kernel(item);
    }
  });
  if (padded != width || has_scales(type_)) {
    if (has_scales(type_)) work.operand.reserve(group.rows, padded * operand_element_);
    team.each(group.rows, kRowGrain, [&](size_t begin, size_t end, size_t worker) {
      std::vector<float>& line = work.line[worker];
      line.resize(std::max(line.size(), padded));
      for (size_t r = begin; r < end; ++r) {
        std::memset(mixed.row(r) + width * element, 0, (padded - width) * element);
        if (!has_scales(type_)) continue;
        const float* x = mixed.row<float>(r);
        if (half_) {
          kernels_.from_half(mixed.row<uint16_t>(r), padded, line.data());
          x = line.data();
        }
        emit(x, r, width, work);
      }
    });
  }
  multiply(s.output, group.rows, Activation::kNone, work.delta.row(0), work.delta.stride(), false,
           work, team);
}

void EncoderProgram::mix(const Layer& layer, size_t rows, Workspace& work, const Team& team) const {
  const EncoderMlpStage& s = *layer.mlp;
  const size_t outputs = s.up.matrix->rows(), inner = outputs / (s.gated ? 2 : 1);
  const size_t padded = round_to(inner, 16);
  const bool half = half_ && !s.gated;
  const size_t element = half ? sizeof(uint16_t) : sizeof(float);
  work.inner.reserve(rows, round_to(outputs, 16) * element);
  multiply(s.up, rows, s.gated ? Activation::kNone : s.activation, work.inner.row(0),
           work.inner.stride(), half, work, team);
  // What activations make of the padding is not zero in itself, but the padding's weights are.
  const bool direct = !s.gated && type_ == DenseType::kBFloat16;
  if (direct) {
    std::swap(work.inner, work.operand);
  } else {
    work.operand.reserve(rows, padded * operand_element_);
    team.each(rows, kRowGrain, [&](size_t begin, size_t end, size_t worker) {
      std::vector<float>& line = work.line[worker];
      line.resize(std::max(line.size(), padded));
      for (size_t r = begin; r < end; ++r) {
        float* x = work.inner.row<float>(r);
        if (s.gated) kernels_.gate(s.activation, x + inner, inner, x);
        if (half) {
          kernels_.from_half(work.inner.row<uint16_t>(r), padded, line.data());
          x = line.data();
        }
        emit(x, r, inner, work);
      }
    });
  }
  multiply(s.down, rows, Activation::kNone, work.delta.row(0), work.delta.stride(), false, work,
           team);
}

void EncoderProgram::pool(const Group& group, const TextBatch& batch, TextPooling pooling,
                          const Workspace& work, float* out) const {
  if (pooling == TextPooling::kNone) {
    for (size_t r = 0; r < group.rows; ++r)
      std::memcpy(out + (group.first_row + r) * hidden_, work.state.row(r),
                  hidden_ * sizeof(float));
    return;
  }
  for (size_t t = group.first_text; t < group.last_text; ++t) {
    float* sum = out + t * hidden_;
    const size_t text_first = static_cast<size_t>(batch.row_starts[t]) - group.first_row;
    size_t first = text_first;
    const size_t last = static_cast<size_t>(batch.row_starts[t + 1]) - group.first_row;
    if (batch.pool_starts != nullptr) first += static_cast<size_t>(batch.pool_starts[t]);
    const size_t only = pooling == TextPooling::kLast ? last - 1 : first;
    std::memcpy(sum, work.state.row(only), hidden_ * sizeof(float));
    if (pooling == TextPooling::kFirst || pooling == TextPooling::kLast) continue;
    // Weights count from the text's first token, whether it is pooled or not.
    const auto weight_of = [&](size_t r) {
      return pooling == TextPooling::kWeighted ? static_cast<float>(r - text_first + 1) : 1.0f;
    };
    float total = weight_of(first);
    if (pooling == TextPooling::kWeighted)
      for (size_t c = 0; c < hidden_; ++c) sum[c] *= total;
    for (size_t r = first + 1; r < last; ++r) {
      const float* x = work.state.row<float>(r);
      const float weight = weight_of(r);
      total += weight;
      if (pooling == TextPooling::kLargest)
        for (size_t c = 0; c < hidden_; ++c) sum[c] = std::max(sum[c], x[c]);
      else if (pooling == TextPooling::kMean)
        kernels_.add(x, hidden_, sum);
      else
        for (size_t c = 0; c < hidden_; ++c) sum[c] += weight * x[c];
    }
    if (pooling == TextPooling::kLargest) continue;
    for (size_t c = 0; c < hidden_; ++c) sum[c] /= total;
  }
}

}  // namespace lepton
