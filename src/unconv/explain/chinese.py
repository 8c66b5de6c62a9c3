"""The sentences of explanations in Chinese; the English sentence is the key."""

CHINESE = {
    # Punctuation between parts of sentences.
    "; ": "；",
    ", ": "、",
    ",": "，",
    " ": "",
    "{what}: {words}": "{what}：{words}",
    # Axes and settings.
    "height": "高度方向",
    "width": "宽度方向",
    "{name} {words}": "{name} {words}",
    "along the {name} {words}": "沿{name}{words}",
    "{before} before, {after} after": "前填 {before}、后填 {after}",
    "{before} before, {after} after (r = {rest})": "前填 {before}、后填 {after}（r = {rest}）",
    "crop {samples}": "−{samples}（即裁去）",
    "{count} between samples": "每两个元素之间插入 {count} 个",
    "kernel {kernel}, stride {stride}, padding {padding}": "卷积核大小 {kernel}，步幅 {stride}，填充 {padding}",
    "kernel {window}, stride {stride}, padding {padding}": "窗口大小 {window}，步幅 {stride}，填充 {padding}",
    "kernel {kernel}, stride {stride}, dilation {dilation}, padding {padding}": (
        "卷积核大小 {kernel}，步幅 {stride}，膨胀率 {dilation}，填充 {padding}"
    ),
    "none": "无",
    "only {size}": "只能是 {size}",
    "{others} or {last}": "{others} 或 {last}",
    "any from {first} to {last}": "{first} 到 {last} 均可",
    # Titles.
    "Transposed convolution, {before} to {after}: {settings}": "转置卷积，{before} → {after}，{settings}",
    "{title}: stamps": "{title}（逐个输入累加）",
    "{title}: matrices": "{title}（矩阵形式）",
    "{title}: both ways": "{title}（与正向卷积对照）",
    "{title}: channels": "{title}（按输入通道求和）",
    "Max pooling and back: {settings}": "最大池化与反池化，{settings}",
    "Average pooling and back: {settings}": "平均池化与反池化，{settings}",
    # Panels and cards.
    ", channel {channel} of {count}": "，通道 {channel}（共 {count} 个）",
    ", padded": "（已填充）",
    "Input, {size}": "输入，{size}",
    "Kernel, {size}": "卷积核，{size}",
    "Output, {size}": "输出，{size}",
    "1. Flip the kernel": "1. 翻转卷积核",
    "2. Insert zeros, {size}": "2. 插入零，{size}",
    "3. Pad, {size}": "3. 填充，{size}",
    "4. Convolve, {size}": "4. 卷积，{size}",
    "stride 1, no padding": "步幅 1，不填充",
    "Input samples that reach it": "每个输出由几个输入元素相加",
    "Window": "窗口",
    "Flipped kernel": "翻转后的卷积核",
    "Products": "逐项相乘",
    "Sample": "输入元素",
    "Its stamp": "它的贡献",
    "The stamps": "各元素的贡献",
    "Output so far": "累加到目前的输出",
    "Stamps that reach it": "已累加的次数",
    "The convolution's matrix, {size}": "卷积的矩阵，{size}",
    "Transposed, {size}": "它的转置，{size}",
    "Input, flat": "展平的输入",
    "Output, flat": "展平的输出",
    "Transposed: output, {size}": "转置卷积的输出，{size}",
    "Forward: the same picture": "正向卷积：同一张图",
    "Its convolution, {size}": "卷积结果，{size}",
    "Input channel {channel}": "输入通道 {channel}",
    "Kernel {channel}": "卷积核 {channel}",
    "From channel {channel}": "来自通道 {channel}",
    "From the {count} others": "来自其余 {count} 个通道",
    "Maxima, {size}": "最大值，{size}",
    "Averages, {size}": "平均值，{size}",
    "Their indices": "池化索引",
    "Unpooled, {size}": "反池化结果，{size}",
    "rows {top}–{bottom}, columns {left}–{right}": "第 {top}–{bottom} 行，第 {left}–{right} 列",
    "rows {top} to {bottom}, columns {left} to {right}": "第 {top} 至 {bottom} 行，第 {left} 至 {right} 列",
    "{left} to {right}": "第 {left} 至 {right} 个",
    "{left}–{right}": "第 {left}–{right} 个",
    "{top}–{bottom}": "第 {top}–{bottom} 个",
    "No room here for: {panels}": "此处放不下：{panels}",
    # Captions.
    "row {row}, column {column}": "第 {row} 行第 {column} 列",
    "sample {column}": "第 {column} 个元素",
    "{terms} + … ({count} products)": "{terms} + …（共 {count} 项乘积）",
    "0: only zeros lie under the kernel": "0（卷积核下全是零）",
    "Output at {place}: {words}.": "输出{place}：{words}。",
    "Output at {place}: {words} from input channel {channel}; the other input channel adds {rest}: {total}.": (
        "输出{place}：输入通道 {channel} 贡献 {words}；另一个输入通道贡献 {rest}；合计 {total}。"
    ),
    "Output at {place}: {words} from input channel {channel}; the other input channels add {rest}: {total}.": (
        "输出{place}：输入通道 {channel} 贡献 {words}；其余输入通道贡献 {rest}；合计 {total}。"
    ),
    "Input at {place}: {value} times the kernel is added to the output.": (
        "输入{place}：把卷积核乘以 {value}，加到输出的对应位置。"
    ),
    "It overlaps earlier stamps in {count} of {all} cells, where values add up.": (
        "{all} 个位置中有 {count} 个与前面的重叠，数值相加。"
    ),
    "It falls outside in {count} of {all} cells, which are cut off.": "{all} 个位置中有 {count} 个落在输出之外，被裁去。",
    "The last stamp: this is the result.": "这是最后一个元素，累加完毕，即为结果。",
    "The last stamp: this is what input channel {channel} gives.": (
        "这是最后一个元素，累加完毕，即为输入通道 {channel} 的贡献。"
    ),
    "Output at {place}: row {number} of the transposed matrix, which is column {number} of the convolution's, times the "
    "input: {words}.": "输出{place}：转置矩阵的第 {number} 行（也就是卷积矩阵的第 {number} 列）乘以输入：{words}。",
    "Output at {place}, number {number}: row {number} of the transposed matrix, which is column {number} of the "
    "convolution's, times the input: {words}.": (
        "输出{place}，展平后是第 {number} 个：转置矩阵的第 {number} 行（也就是卷积矩阵的第 {number} 列）乘以输入：{words}。"
    ),
    "0: this row holds only zeros": "0（这一行全是零）",
    "Transposed: the input at {place}, {value}, times the kernel is added to the marked window. "
    "Forward: the {count} samples of the same window, times the kernel, add up to {total} at {place}.": (
        "转置卷积：把卷积核乘以输入{place}的 {value}，加到标出的窗口里。"
        "正向卷积：同一窗口里的 {count} 个元素与卷积核逐项相乘再相加，得到{place}的 {total}。"
    ),
    "Output at {place}: {words} = {total}, a part from each channel.": (
        "输出{place}：{words} = {total}，每个输入通道各贡献一项。"
    ),
    "Window at row {row}, column {column}: the average of {samples}, without padding, is {value}. "
    "Back: it is copied, undivided, to each of them.": (
        "第 {row} 行第 {column} 列的窗口：{samples} 的平均值（不计填充）是 {value}。反池化：把它原样复制到其中每个位置。"
    ),
    "Window at row {row}, column {column}: the largest of {samples} is {value}{first} at row {y}, column {x}: "
    "index {index}. Back: it goes to the sample that it came from.": (
        "第 {row} 行第 {column} 列的窗口：{samples} 中最大的是 {value}{first}位于第 {y} 行第 {x} 列，池化索引 {index}。"
        "反池化：它回到原来的位置。"
    ),
    ", the first of {count} equal ones,": "（{count} 个相等，取第一个），",
    "At row {row}, column {column}, {count} windows meet: {sum} = {result}.": (
        "第 {row} 行第 {column} 列有 {count} 个窗口重叠：{sum} = {result}。"
    ),
    "At row {row}, column {column}, {count} windows meet: the mean of {values} is {result}.": (
        "第 {row} 行第 {column} 列有 {count} 个窗口重叠：{values} 的平均值是 {result}。"
    ),
    "At row {row}, column {column}, {count} windows meet: the last of {values} stays.": (
        "第 {row} 行第 {column} 列有 {count} 个窗口重叠：{values} 中保留最后一个。"
    ),
    # Facts.
    "Possible output sizes": "可能的输出大小",
    "Padding of the forward convolution": "正向卷积的填充",
    "Padding in step 3": "第 3 步的填充",
    "Checkerboard": "棋盘效应",
    "Note": "注意",
    "Cut off": "裁去的部分",
    "Why transposed": "为什么叫“转置”",
    "Colours": "颜色",
    "Both ways": "两个方向",
    "Channels": "通道",
    "Padding": "填充",
    "Index": "池化索引",
    "Overlapping windows": "重叠的窗口",
    "kernel − 1": "卷积核大小 − 1",
    "(kernel − 1) · dilation": "(卷积核大小 − 1) · 膨胀率",
    "{pads} ({span}, minus the forward padding)": "{pads}（“{span}”减去正向卷积的填充）",
    "{pads} ({span}, minus the forward padding, plus r after)": "{pads}（“{span}”减去正向卷积的填充，末尾再多填 r 个）",
    "none, because away from the border every sample receives the same number of values": (
        "无（离边界稍远的每个元素都由同样多的数值相加而成）"
    ),
    "neighbouring samples receive different numbers of values: {words}. {remedy}": (
        "相邻元素由不同个数的数值相加而成，{words}。{remedy}"
    ),
    "{others} and {last} in turn": "依次为 {others}、{last} 个",
    "the same number": "个数相同",
    "With a kernel length that is a multiple of the stride, all receive the same number": (
        "若卷积核大小是步幅的整数倍，则各元素的个数相同"
    ),
    "Stride {stride} and dilation {dilation} have a common divisor, so no kernel length avoids this": (
        "步幅 {stride} 与膨胀率 {dilation} 有公约数，任何大小的卷积核都做不到个数相同"
    ),
    "the shape is restored, not the values: this is the adjoint of the convolution, not its inverse": (
        "还原的是形状，不是数值；它是卷积的伴随算子，不是逆算子"
    ),
    "nothing: the stamps fill the output exactly, or leave zeros after them": "无（各元素的贡献恰好铺满输出，或在末尾留下零）",
    "the part that the forward convolution pads, where its windows reach outside the picture": (
        "对应正向卷积的填充，即窗口伸到图外的部分"
    ),
    "a picture written as one long column is convolved by a matrix: one row for each window, with the kernel's "
    "entries where the window lies and zeros elsewhere. The transposed convolution is that matrix transposed": (
        "把图展平成一列，卷积就是乘以一个矩阵；矩阵的每一行对应一个窗口，窗口所在处是卷积核的元素，其余为零。转置卷积乘的正是它的转置"
    ),
    "one for each entry of the kernel, so that it can be recognised in both matrices": (
        "卷积核的每个元素一种颜色，在两个矩阵里都能认出来"
    ),
    "the same windows with the arrows reversed: where the convolution reads, its transpose writes": (
        "窗口相同，箭头相反；卷积从哪里读，转置卷积就往哪里写"
    ),
    "each input channel has its own kernel, and the results are added up": ("每个输入通道有自己的卷积核，各通道的结果相加"),
    "the smaller samples are lost: unpooling restores the shape, not the values": (
        "较小的元素丢失了；反池化还原的是形状，不是数值"
    ),
    "the differences within a window are lost: unpooling restores the shape, not the values": (
        "窗口内各元素的差别丢失了；反池化还原的是形状，不是数值"
    ),
    "(row · width + column) · channels + channel, of the input without its padding": (
        "（行 · 宽 + 列）· 通道数 + 通道，按未填充的输入计算"
    ),
    "values that reach the same sample add up": "到达同一处的数值相加",
    "values that reach the same sample overwrite each other, and the last one stays": "到达同一处的数值互相覆盖，留下最后一个",
    "values that reach the same sample are averaged": "到达同一处的数值取平均",
    # Legend.
    "a value": "数值",
    "an inserted zero": "插入的零",
    "padding": "填充",
    "more padding, for a larger output (r)": "为凑足输出大小而多填的零（r）",
    "cropped": "裁去",
    "the kernel": "卷积核",
    "the output": "输出",
    "an overlap: several stamps add up": "重叠处：几个贡献相加",
    "a part of the sum": "和的一部分",
    "the largest of its window": "窗口中最大的元素",
    "a zero that no value reached": "没有数值到达的零",
    "a zero outside the window": "窗口之外的零",
    "a count or an index": "个数或池化索引",
    "[ ] marked": "[ ] 为标出的元素",
    "Rows and columns are counted from 0.": "行、列都从 0 开始编号。",
    "Samples are counted from 0.": "元素从 0 开始编号。",
    # The page.
    "Play": "播放",
    "Pause": "暂停",
    "Step": "步骤",
    "Step {step} of {count}": "第 {step} 步，共 {count} 步",
    "Move the slider, or press the arrow keys, Home or End; the space bar plays. A click on a cell of “{panel}” jumps to "
    "its step.": "拖动滑块，或按方向键、Home、End 键；按空格键播放。点击“{panel}”中的格子可跳到相应步骤。",
    "All steps in words": "全部步骤的文字说明",
    "Made by unconv {version}.": "由 unconv {version} 生成。",
}
