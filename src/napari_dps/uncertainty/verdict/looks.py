"""How a report looks."""

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:28px 24px 60px;color:#1b2733;background:#f4f6f8;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:26px;margin:0}header p{margin:2px 0 0;color:#5d6b78}
h2{font-size:17px;margin:0 0 12px}h3{font-size:15px;margin:0}
section{background:#fff;border:1px solid #dde3e8;border-radius:10px;padding:18px 20px;
margin-top:18px}
.finding{display:flex;gap:14px;align-items:flex-start;padding:10px 0;border-top:1px solid #eef1f4}
.finding:first-of-type{border-top:0;padding-top:0}.finding p{margin:2px 0 0}
.mark{flex:0 0 104px;text-align:center;border-radius:999px;padding:2px 10px;font-size:13px;
font-weight:600;border:2px solid;white-space:nowrap}
.mark b{font-size:15px}
.good{color:#0b5c8a;border-color:#0b5c8a;background:#e8f3fa}
.bad{color:#fff;border-color:#b3420f;background:#b3420f}
.open{color:#44515d;border-color:#5d6b78;background:#f0f2f4}
.none{color:#5d6b78;border-color:#9aa5b1;border-style:dashed}
.notes{margin:12px 0 0;padding-left:20px;color:#44515d;font-size:14px}
.grid{display:flex;flex-wrap:wrap;gap:16px}
figure{margin:0;flex:0 1 316px}.charts figure{flex-basis:370px}
img{max-width:100%;height:auto;display:block}
figcaption{font-size:13px;color:#44515d;margin-top:4px}
.tables{display:flex;flex-wrap:wrap;gap:20px;margin-top:16px;align-items:flex-start}
table{border-collapse:collapse;font-size:13px}
th,td{text-align:right;padding:4px 10px;border-bottom:1px solid #e6eaee;vertical-align:top;
overflow-wrap:anywhere}
th:first-child,td:first-child{text-align:left;padding-left:0}
th{font-weight:600;border-bottom:2px solid #c9d2da}
td .mark{padding:0 8px}
pre{background:#f4f6f8;border-radius:6px;padding:12px;overflow:auto;font-size:12.5px;margin:0}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
