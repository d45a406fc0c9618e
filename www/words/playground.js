// @ts-check
// The playground's words: chat, tokens, history, links and files. It stands beside strings.js, which joins them in, and
// holds nothing else.

export const PLAYGROUND_EN = {
  "mode.label": "How the model is asked",
  "mode.raw": "Raw completion",
  "mode.chat": "Chat",
  "chat.note": "Instruct model: it answers through the checkpoint's own chat template, and may be wrong.",
  "chat.fault": "No chat with this checkpoint: {reason}",
  "chat.system": "System message",
  "chat.system.note": "Stands before the conversation, where the template takes one.",
  "chat.turns": "Conversation",
  "chat.message": "Your message",
  "chat.user": "You",
  "chat.assistant": "Model",
  "chat.new": "New conversation",
  "chat.empty": "Type a message first.",
};

/** @type {Record<keyof typeof PLAYGROUND_EN, string>} */
export const PLAYGROUND_RU = {
  "mode.label": "Как обращаться к модели",
  "mode.raw": "Продолжение текста",
  "mode.chat": "Чат",
  "chat.note": "Инструктивная модель: отвечает через собственный шаблон чата и может ошибаться.",
  "chat.fault": "Чата с этим чекпойнтом не будет: {reason}",
  "chat.system": "Системное сообщение",
  "chat.system.note": "Стоит перед беседой, если шаблон его принимает.",
  "chat.turns": "Беседа",
  "chat.message": "Ваше сообщение",
  "chat.user": "Вы",
  "chat.assistant": "Модель",
  "chat.new": "Новая беседа",
  "chat.empty": "Сначала введите сообщение.",
};
