#include "encoder.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "check.h"
#include "encoder_parts.h"

namespace lepton {

namespace {

// Tokens that one thread takes through all layers at a time, so that their states stay in its
// second-level cache.
constexpr size_t kGroupTokens = 256;
// Fewer are not worth a pass over the weights of their own.
constexpr size_t kLeastGroupTokens = 96;

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

}  // namespace

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
  const size_t padded = round_to(hidden, 16);
  most_.state = hidden * sizeof(float);
  most_.delta = most_.line = padded * sizeof(float);
  most_.operand = padded * operand_element_;
  workspaces_.resize(static_cast<size_t>(threads_->threads()));
  scratch_.resize(workspaces_.size());
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
  const size_t width = s.num_heads * s.head_dim, shared = s.num_kv_heads * s.head_dim;
  check_linear(s.joined, width + 2 * shared, hidden_, type_);
  check_linear(s.output, hidden_, width, type_);
  for (const auto* norm : {&s.norm, &s.post_norm, &s.residual_norm}) check_norm(*norm, hidden_);
  for (const auto* norm : {&s.query_norm, &s.key_norm}) check_norm(*norm, s.head_dim);
  auto layer = std::make_unique<Layer>();
  const size_t element = half_ ? sizeof(uint16_t) : sizeof(float);
  layer->room.joined = round_to(width + 2 * shared, 16) * element;
  layer->room.operand = round_to(width, 16) * operand_element_;
  if (has_scales(type_)) layer->room.mixed = round_to(width, 16) * element;
  layer->room.line = round_to(width + shared, 16) * sizeof(float);
  layer->room.head_dim = s.head_dim;
  most_.widen(layer->room);
  if (s.rope) layer->rope_table = rope_table(*s.rope);
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
  const size_t element = half_ && !s.gated ? sizeof(uint16_t) : sizeof(float);
  layer->room.inner = round_to(s.up.matrix->rows(), 16) * element;
  layer->room.operand = round_to(inner, 16) * operand_element_;
  layer->room.line = round_to(inner, 16) * sizeof(float);
  most_.widen(layer->room);
  layer->mlp = std::move(s);
  layers_.push_back(std::move(layer));
}

void EncoderProgram::set_final_norm(EncoderNorm norm) {
  final_norm_ = std::move(norm);
  check_norm(final_norm_, hidden_);
}

// Layers with the same rope share its table.
size_t EncoderProgram::rope_table(const EncoderRope& rope) {
  for (size_t i = 0; i < rope_tables_.size(); ++i)
    if (rope_tables_[i].serves(rope)) return i;
  rope_tables_.emplace_back(rope);
  return rope_tables_.size() - 1;
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

// All the memory that these groups take on their way, in so many workspaces at a time.
void EncoderProgram::make_room(const TextBatch& batch, const std::vector<Group>& groups,
                               size_t workspaces) {
  size_t longest = 0, rows = 0;
  for (size_t t = 0; t < batch.texts; ++t)
    longest = std::max(longest, static_cast<size_t>(batch.row_starts[t + 1] - batch.row_starts[t]));
  for (const Group& group : groups) rows = std::max(rows, group.rows);
  for (EncoderRopeTable& table : rope_tables_) table.grow(longest, *threads_);
  for (EncoderScratch& scratch : scratch_) scratch.allocate(longest, most_);
  for (size_t i = 0; i < workspaces; ++i) workspaces_[i].allocate(rows, most_, type_);
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
    const std::vector<Group> shared = groups(batch, kGroupTokens * threads);
    make_room(batch, shared, 1);
    const Team team{threads_.get(), 0};
    for (const Group& group : shared) run(group, batch, pooling, workspaces_[0], team, out);
    return;
  }
  make_room(batch, shares, threads);
  threads_->parallel_for(shares.size(), 1, [&](size_t begin, size_t end, int worker) {
    const Team alone{nullptr, static_cast<size_t>(worker)};
    for (size_t g = begin; g < end; ++g)
      run(shares[g], batch, pooling, workspaces_[alone.caller], alone, out);
  });
}

const std::optional<EncoderNorm>* EncoderProgram::norm_before(size_t layer) const {
  if (layer >= layers_.size()) return nullptr;
  const Layer& next = *layers_[layer];
  return next.attention ? &next.attention->norm : &next.mlp->norm;
}

void EncoderProgram::run(const Group& group, const TextBatch& batch, TextPooling pooling,
                         EncoderWorkspace& work, const Team& team, float* out) const {
  work.state.shape(group.rows, most_.state);
  work.delta.shape(group.rows, most_.delta);
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

}  // namespace lepton
