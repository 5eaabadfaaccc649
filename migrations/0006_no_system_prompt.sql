-- A column that nothing ever wrote: an agent's instructions are in the manifest of its versions.

ALTER TABLE agents DROP COLUMN system_prompt;
