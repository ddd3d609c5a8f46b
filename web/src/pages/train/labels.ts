// What the fields of a recipe are called. A field without a name here is called by its key, and helped by the schema.
import type { Language } from "../../preferences";

const LABELS: Record<string, readonly [en: string, zh: string, help?: string]> = {
  name: ["Name of the run", "训练名称", "文件保存在 runs/ 下的同名文件夹。"],
  data: ["Data", "数据", "工作区中的文件、文件夹或通配符；可以按权重混合多个来源。"],
  checkpoint: ["Start from", "起始检查点", "从这个模型继续，而不是从随机权重开始。"],
  teacher: ["Teacher", "教师模型", "要向它学习的模型。"],
  tokenizer: ["Tokenizer", "分词器", "tokenizer.json 所在文件夹，或 bytes（每个字节一个词元）。"],
  "model.dim": ["Width", "宽度", "隐藏维度。"],
  "model.num_layers": ["Layers", "层数", "块的数量。"],
  "model.num_heads": ["Heads", "注意力头数", "查询头的数量。"],
  steps: ["Steps", "步数", "优化器步数；步数、轮数、分钟三者只填一个。"],
  epochs: ["Epochs", "轮数", "遍历数据的次数。"],
  minutes: ["Minutes", "分钟", "训练时间；测出速度后换算成步数。"],
  max_seq_len: ["Tokens in a row", "每行词元数", "上下文长度。"],
  batch_rows: ["Rows in a step", "每步行数", "一个优化器步中的行数。"],
  "optimizer.learning_rate": ["Learning rate", "学习率", "学习率的峰值。"],
  "tune.method": ["What trains", "训练什么", "full：全部参数；否则是一种微调方法。"],
  seed: ["Seed", "随机种子"],
  micro_rows: ["Rows at a time", "每次计算的行数"],
  validation: ["Validation data", "验证数据"],
  validation_fraction: ["Share held out", "留出比例"],
  validation_split: ["How to hold out", "留出方式"],
  validate_every: ["Validate every (steps)", "每隔多少步验证"],
  save_every: ["Save every (steps)", "每隔多少步保存"],
  sample_every: ["Sample every (steps)", "每隔多少步采样"],
  sample_prompts: ["Prompts of samples", "采样的开头"],
  patience: ["Patience", "耐心"],
  keep: ["Checkpoints kept", "保留的检查点"],
  dtype: ["Number type", "数值类型"],
  compile: ["Compile", "编译"],
  gradient_checkpointing: ["Gradient checkpointing", "梯度检查点"],
  remember: ["Measure forgetting on", "衡量遗忘的文本"],
  test: ["Test data", "测试数据"],
  template: ["Template", "模板"],
  on_long: ["Too long rows", "过长的行"],
  "model.preset": ["Preset", "预设"],
  "model.family": ["Family", "模型家族"],
  "model.num_kv_heads": ["Key and value heads", "键值头数"],
  "model.hidden_dim": ["Inner width", "前馈宽度"],
  "model.tied": ["Tied embeddings", "共享词嵌入"],
  "optimizer.name": ["Optimizer", "优化器"],
  "optimizer.schedule": ["Schedule", "学习率曲线"],
  "optimizer.warmup_fraction": ["Warm-up share", "预热比例"],
  "optimizer.decay_fraction": ["Decay share", "衰减比例"],
  "optimizer.weight_decay": ["Weight decay", "权重衰减"],
  "optimizer.clip_norm": ["Clip gradient norm", "梯度裁剪"],
  "objective.name": ["Objective", "目标"],
};

const GROUPS: Record<string, readonly [en: string, zh: string]> = {
  "": ["Validation, saving, samples", "验证、保存、采样"],
  optimizer: ["Optimizer", "优化器"],
  tune: ["Tuning", "微调方式"],
  model: ["Model", "模型"],
  objective: ["Objective", "目标"],
};

const VERBS: Record<string, readonly [en: string, zh: string]> = {
  pretrain: ["Base model", "基础模型"],
  sft: ["Chat model", "对话模型"],
  classify: ["Classifier", "分类"],
  tag: ["Tagger", "序列标注"],
  extract: ["Extractor", "信息抽取"],
  seq2seq: ["Sequence to sequence", "序列到序列"],
  distill: ["Distilled model", "蒸馏"],
  quickstart: ["First model", "第一个模型"],
};

function spoken(key: string): string {
  const words = key.slice(key.lastIndexOf(".") + 1).replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function labelOf(key: string, language: Language): string {
  return LABELS[key]?.[language === "en" ? 0 : 1] ?? spoken(key);
}

export function helpOf(key: string, schema: string, language: Language): string {
  return (language === "zh" && LABELS[key]?.[2]) || schema;
}

export function groupOf(key: string, language: Language): string {
  return GROUPS[key]?.[language === "en" ? 0 : 1] ?? spoken(key);
}

export function verbOf(key: string, language: Language): string {
  return VERBS[key]?.[language === "en" ? 0 : 1] ?? spoken(key);
}

/** Those that have a form; a first model is made at home. */
export const VERB_NAMES = Object.keys(VERBS).filter((verb) => verb !== "quickstart");
