-- After citeproc: citations link to the page of references, and only that page prints the list.
local page = ""

return {
  { Meta = function(meta) page = pandoc.utils.stringify(meta.references or "") end },
  {
    Link = function(link)
      if page ~= "" and link.target:match("^#ref%-") then
        link.target = page .. link.target
        return link
      end
    end,
    Div = function(div)
      if page ~= "" and div.identifier == "refs" then return {} end
    end,
  },
}
