"""The sentences that simulated answers are made of, in Chinese and English: data only."""

ZH_SENTENCES = (
    "先说结论。",
    "这很重要。",
    "原因有三个。",
    "我们一步步来。",
    "先看最简单的情形。",
    "这里有一个常见的误区。",
    "把大问题拆成小问题会更容易。",
    "换个角度看，答案就清楚了。",
    "实际使用时还要留意边界条件。",
    "如果条件改变，结论也会随之改变。",
    "第一步是弄清楚目标，第二步才是动手。",
    "经验表明，简单的做法往往走得最远。",
    "可以先做一个小实验，再决定要不要继续。",
    "数据够多的时候，趋势会自己显现出来。",
    "值得一提的是，细节常常决定最后的成败。",
    "打个比方，这就像在河里逆水行舟，不进则退。",
    "综合来看，稳妥的方案是先求正确，再求更快。",
    "最后，不要忘记检查一遍结果是否符合预期。",
)

EN_SENTENCES = (
    "It depends.",
    "Start small.",
    "Details matter here.",
    "There are three reasons.",
    "Consider the simple case first.",
    "A common mistake hides in this step.",
    "In practice the edges need some care.",
    "Splitting the problem makes each part easier.",
    "If the conditions change, the conclusion changes too.",
    "A short experiment often settles what arguments cannot.",
    "The first step is to state the goal plainly.",
    "Seen from the other side, the answer becomes clear.",
    "With enough data the trend shows up by itself.",
    "Experience says that plain solutions tend to last the longest.",
    "It helps to write down what would prove us wrong.",
    "On balance, get it right first and make it fast afterwards.",
    "Finally, check once more that the result is what you expected.",
)

ZH_THOUGHTS = (
    "让我想想。",
    "用户想要什么？",
    "先回忆相关的知识。",
    "这个思路似乎可行。",
    "再核对一遍，没有问题。",
    "也许还有更简单的办法，比较一下。",
    "列出几个要点，然后组织成一段回答。",
)

EN_THOUGHTS = (
    "Let me think.",
    "What is being asked?",
    "Recall the relevant facts first.",
    "This line of thought seems to work.",
    "Check again: no contradiction so far.",
    "There may be a simpler way, so compare both.",
    "List the main points, then turn them into an answer.",
)
