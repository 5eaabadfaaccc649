// Line icons of our own, on a grid of 16.
const PATHS = {
  home: "M2.500 7.500 8 3l5.500 4.500V13a.5.5 0 0 1-.5.500H9.500V10h-3v3.500H3a.5.500 0 0 1-.5-.500z",
  runs: "M3 3.500h6M3 8h10M3 12.500h7",
  approvals: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM5.500 8l1.800 1.800L10.500 6.500",
  agents: "M4.500 6.500h7a1 1 0 0 1 1 1v4a1 1 0 0 1-1 1h-7a1 1 0 0 1-1-1v-4a1 1 0 0 1 1-1zM8 6.500V3.500M6.500 9.500v.010M9.500 9.500v.010M6.500 3.500h3",
  sessions: "M3 3.500h10v7H7l-2.500 2.500v-2.500H3z",
  providers: "M3 4.500h10v3H3zM3 9.500h10v3H3zM5 6v.010M5 11v.010",
  spending: "M8 2.500v11M11 5c-.5-1-1.500-1.500-3-1.500-1.800 0-3 .8-3 2.200 0 3 6 1.600 6 4.600 0 1.400-1.200 2.200-3 2.200-1.500 0-2.500-.500-3-1.500",
  calls: "M3 5h8M8.500 2.500 11 5 8.500 7.500M13 11H5M7.500 8.500 5 11l2.500 2.500",
  receipts: "M4 2.500h8v11l-2-1.200-2 1.200-2-1.200-2 1.200zM6 6h4M6 9h4",
  keys: "M6 10.500a3 3 0 1 1 2.500-4.600H14v2.200h-1.500v1.800h-2V8.100H8.800A3 3 0 0 1 6 10.500zM5.700 7.500v.010",
  settings: "M3 5h5M11 5h2M3 11h2M8 11h5M9.500 3.500v3M6.500 9.500v3",
  more: "M4 8v.010M8 8v.010M12 8v.010",
  llm: "M8 2.500 9.500 6.500 13.500 8 9.500 9.500 8 13.500 6.500 9.500 2.500 8 6.500 6.500z",
  tool: "M10.500 2.800a3 3 0 0 0-3.300 4.300l-4.400 4.400 1.700 1.700 4.400-4.400a3 3 0 0 0 4.300-3.300L11.500 7.200 9 4.700z",
  approval: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM5.500 8l1.800 1.800L10.500 6.500",
  signal: "M8 12.500v.010M5.500 10a3.500 3.500 0 0 1 5 0M3.300 7.500a6.700 6.700 0 0 1 9.400 0",
  sleep: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 5v3.200l2.200 1.300",
  child: "M4 3v6a2 2 0 0 0 2 2h6M9.500 8.500 12 11l-2.500 2.500",
  map: "M2.500 8h3M5.500 8c2.500 0 2.500-4 5-4h3M5.500 8h8M5.500 8c2.500 0 2.500 4 5 4h3",
  race: "M3 13V3h9l-2.500 3L12 9H3",
} as const;
export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: string }) {
  const path = PATHS[name as IconName] ?? PATHS.tool;
  return (
    <svg className="icon" viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.4" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}
