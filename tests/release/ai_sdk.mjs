// The AI SDK over the Responses API and over legacy completions; prints one JSON object.
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';

const openai = createOpenAI({ baseURL: process.env.SERVICE_URL, apiKey: process.env.SERVICE_KEY });
const model = openai('fast');
const inputSchema = z.object({ city: z.string(), days: z.number() });
const weather = tool({
  description: 'The weather.',
  inputSchema,
  execute: async ({ city }) => `sunny in ${city}`,
});
const tools = { weather };

const messages = [{ role: 'user', content: 'How is it? [[sim:calls=1]]' }];
const first = await generateText({ model, messages, tools, stopWhen: stepCountIs(3) });
messages.push(...first.response.messages, { role: 'user', content: 'And now?' });
const second = streamText({ model, messages, tools });
let streamed = '';
for await (const piece of second.textStream) streamed += piece;
const searching = await generateText({
  model,
  prompt: 'Hello.',
  tools: { web_search: openai.tools.webSearch({}) },
  providerOptions: { openai: { store: false, truncation: 'auto', maxToolCalls: 3, user: 'u' } },
});
const completed = await generateText({ model: openai.completion('fast'), prompt: 'Hello.' });
console.log(
  JSON.stringify({
    steps: first.steps.length,
    first: first.text,
    second: streamed,
    searching: searching.text,
    completed: completed.text,
  }),
);
