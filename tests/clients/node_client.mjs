// The same through Node's client, @duckdb/node-api.
import { DuckDBInstance, version } from '@duckdb/node-api';

let text = '';
for await (const piece of process.stdin) text += piece;
const asked = JSON.parse(text);
const instance = await DuckDBInstance.create(asked.file, { access_mode: 'READ_ONLY' });
const con = await instance.connect();
const answers = [];
for (const statement of asked.statements) {
  try {
    const rows = await (await con.run(statement)).getRowsJson();
    answers.push(rows);
  } catch (error) {
    answers.push(String(error.message).split('\n')[0]);
  }
}
console.log(JSON.stringify({ version: version(), answers }));
