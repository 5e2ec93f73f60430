"""Text to token ids and back, and chats to prompts, as each model's own files say."""

from lepton.models.tokenizer.chat_template import ChatTemplate
from lepton.models.tokenizer.detokenizer import Detokenizer
from lepton.models.tokenizer.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "Detokenizer", "Tokenizer"]
